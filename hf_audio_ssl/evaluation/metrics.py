# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""The scores as `evaluate.Metric` classes: batches can be added, several processes combined, nothing is downloaded.

`evaluate.load("accuracy")` fetches code at run time; these are plain classes:
`MeanAveragePrecision().compute(predictions=..., references=...)`.
"""

import datasets
import evaluate

from hf_audio_ssl.evaluation import scores


def _info(metric: evaluate.Metric, predictions, references) -> evaluate.MetricInfo:
    return evaluate.MetricInfo(
        description=metric.__doc__,
        citation="",
        inputs_description="`predictions` and `references`, one entry per clip",
        features=datasets.Features({"predictions": predictions, "references": references}),
    )


class Accuracy(evaluate.Metric):
    """Share of clips whose predicted class id equals the reference: `{"accuracy": float}`."""

    def _info(self) -> evaluate.MetricInfo:
        return _info(self, datasets.Value("int64"), datasets.Value("int64"))

    def _compute(self, predictions, references) -> dict[str, float]:
        return {"accuracy": scores.accuracy(predictions, references)}


class _PerClassMetric(evaluate.Metric):
    """Predictions are scores per class, references multi-hot rows."""

    def _info(self) -> evaluate.MetricInfo:
        return _info(self, datasets.Sequence(datasets.Value("float64")), datasets.Sequence(datasets.Value("float64")))


class MeanAveragePrecision(_PerClassMetric):
    """Macro mean average precision over the classes that occur: `{"mAP": float}`."""

    def _compute(self, predictions, references) -> dict[str, float]:
        return {"mAP": scores.mean_average_precision(predictions, references)}


class RocAuc(_PerClassMetric):
    """Macro area under the ROC curve: `{"roc_auc": float}`."""

    def _compute(self, predictions, references) -> dict[str, float]:
        return {"roc_auc": scores.roc_auc(predictions, references)}


class DPrime(_PerClassMetric):
    """Separation index of the macro area under the ROC curve: `{"d_prime": float}`."""

    def _compute(self, predictions, references) -> dict[str, float]:
        return {"d_prime": scores.d_prime(predictions, references)}


class EqualErrorRate(evaluate.Metric):
    """Equal error rate of verification trials, predictions are scores, references 1 for a match: `{"eer": float}`."""

    def _info(self) -> evaluate.MetricInfo:
        return _info(self, datasets.Value("float64"), datasets.Value("int64"))

    def _compute(self, predictions, references) -> dict[str, float]:
        return {"eer": scores.equal_error_rate(predictions, references)}
