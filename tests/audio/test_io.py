# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
import io

import numpy as np
import pytest
import soundfile

from hf_audio_ssl.audio.io import AudioReadError, load, open_audio, resample

RATE = 16000


def sine(frequency=440.0, rate=RATE, seconds=1.0, amplitude=0.5):
    time = np.arange(round(rate * seconds)) / rate
    return (amplitude * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def encoded(wave, rate=RATE, format="WAV", subtype=None):
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, format=format, subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("format", "subtype", "tolerance"),
    [
        ("WAV", "PCM_16", 1e-4),
        ("WAV", "FLOAT", 0.0),
        ("FLAC", "PCM_24", 1e-6),
        ("OGG", "VORBIS", 0.05),
        ("OGG", "OPUS", 0.1),
        ("MP3", None, 0.05),
        ("AIFF", "PCM_16", 1e-4),
    ],
)
def test_decodes_and_seeks(tmp_path, format, subtype, tolerance):
    wave = sine(seconds=1.5)
    path = tmp_path / f"clip.{format.lower()}"
    path.write_bytes(encoded(wave, format=format, subtype=subtype))
    decoded, rate = load(path)
    assert rate == RATE and decoded.dtype == np.float32 and decoded.shape == wave.shape
    assert np.abs(decoded - wave)[2000:-2000].max() <= tolerance
    part, _ = load(path, offset=0.51, duration=0.25)
    np.testing.assert_allclose(part, decoded[8160:12160], atol=1e-6)


@pytest.mark.parametrize("format", ["FLAC", "OGG", "MP3"])
def test_long_files_are_read_in_blocks_without_seams(monkeypatch, format):
    data = encoded(sine(seconds=3), format=format)
    whole, _ = load(data)
    monkeypatch.setattr("hf_audio_ssl.audio.io._BLOCK", 7000)
    np.testing.assert_allclose(load(data)[0], whole, atol=1e-6)


def test_every_kind_of_source_gives_the_same_samples(tmp_path):
    wave = sine()
    data = encoded(wave, subtype="FLOAT")
    path = tmp_path / "clip.wav"
    path.write_bytes(data)
    audio_dicts = [
        {"bytes": data, "path": None},
        {"bytes": None, "path": str(path)},
        {"array": wave, "sampling_rate": RATE},
        {"array": wave[None].astype(np.float64), "sampling_rate": RATE},
    ]
    for source in [path, str(path), data, io.BytesIO(data), *audio_dicts]:
        decoded, rate = load(source)
        assert rate == RATE
        np.testing.assert_array_equal(decoded, wave)


def test_stereo_is_mixed_down_or_kept():
    left, right = sine(440), sine(880)
    data = encoded(np.stack([left, right], axis=1), subtype="FLOAT")
    np.testing.assert_allclose(load(data)[0], (left + right) / 2, atol=1e-7)
    both, _ = load(data, mono=False)
    np.testing.assert_array_equal(both, np.stack([left, right]))
    halved, rate = load(data, sampling_rate=8000, mono=False)
    assert halved.shape == (2, 8000) and rate == 8000


@pytest.mark.parametrize(("orig", "new"), [(8000, 16000), (44100, 16000), (48000, 16000), (16000, 8000)])
def test_resampling_keeps_a_sine(orig, new):
    resampled = resample(sine(1000, orig, 2.0), orig, new)
    assert len(resampled) == 2 * new
    np.testing.assert_allclose(resampled[new // 4 : -new // 4], sine(1000, new, 2.0)[new // 4 : -new // 4], atol=1e-3)


def test_resampling_removes_what_the_new_rate_cannot_hold():
    assert np.abs(resample(sine(6000, 16000), 16000, 8000)[1000:-1000]).max() < 1e-3


def test_resampling_never_gives_an_empty_wave():
    assert resample(np.ones(1, np.float32), 44100, 16000).shape == (1,)


@pytest.mark.parametrize("share", [0.98, 0.5])
@pytest.mark.parametrize(
    ("format", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "FLOAT"),
        ("FLAC", None),
        ("OGG", "VORBIS"),
        ("MP3", None),
        ("AIFF", None),
        ("W64", None),
    ],
)
def test_truncated_file_is_an_error(format, subtype, share):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * RATE).astype(np.float32)
    data = encoded(noise, format=format, subtype=subtype)
    with pytest.raises(AudioReadError, match="truncated|decode"):
        load(data[: int(len(data) * share)])


def test_wave_streamed_to_a_pipe_has_no_size_and_is_fine():
    wave = sine()
    data = bytearray(encoded(wave, subtype="PCM_16"))
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    assert len(load(bytes(data))[0]) == len(wave)


def test_sources_that_are_no_audio(tmp_path):
    text = tmp_path / "clip.wav"
    text.write_text("not audio at all")
    raw = tmp_path / "clip.raw"
    raw.write_bytes(b"\0" * 100)
    nothing = {"bytes": None, "path": str(tmp_path / "missing.wav")}
    for source in [
        text,
        raw,
        tmp_path,
        nothing,
        b"",
        np.random.default_rng(0).bytes(5000),
        encoded(np.zeros(0, np.float32)),
    ]:
        with pytest.raises(AudioReadError):
            load(source)


# soundfile mentions the impossible places that a damaged header sends it to
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_random_damage_gives_samples_or_an_audio_read_error(format):
    rng = np.random.default_rng(0)
    data = encoded(rng.uniform(-0.3, 0.3, 4000).astype(np.float32), 8000, format)
    for trial in range(60):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data) if trial % 2 else 200, rng.integers(1, 20)):
            damaged[place] = rng.integers(256)
        try:
            wave, _ = load(bytes(damaged[: rng.integers(1, len(data))] if trial % 3 == 0 else damaged), 16000)
        except AudioReadError:
            continue
        assert wave.ndim == 1 and np.isfinite(wave).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite(value):
    wave = sine()
    wave[100] = value
    with pytest.raises(AudioReadError, match="NaN or infinite"):
        load(encoded(wave, subtype="FLOAT"))
    load(encoded(wave, subtype="FLOAT"), offset=0.5)  # only the part that is read counts


def test_bad_arguments_are_named():
    data = encoded(sine())
    with pytest.raises(ValueError, match="offset=2.0 s is past the end"):
        load(data, offset=2.0)
    with pytest.raises(ValueError, match="duration"):
        load(data, duration=0)
    with pytest.raises(ValueError, match="sampling_rate"):
        load({"array": sine()})
    with pytest.raises(ValueError, match="int16"):
        load({"array": np.zeros(10, np.int16), "sampling_rate": RATE})
    with pytest.raises(ValueError, match="expected a path, bytes"):
        load(3)
    with pytest.raises(ValueError, match="positive"):
        load(data, sampling_rate=0)
    with pytest.raises(ValueError, match=r"\(2, 3, 4\)"):
        resample(np.zeros((2, 3, 4), np.float32), 8000, 16000)


def test_reader_gives_windows_without_decoding_the_rest():
    wave = sine(seconds=3)
    with open_audio(encoded(wave, subtype="FLOAT")) as audio:
        assert (audio.frames, audio.channels, audio.sampling_rate) == (3 * RATE, 1, RATE)
        np.testing.assert_array_equal(audio.read(40000, 100000), wave[40000:])
        np.testing.assert_array_equal(audio.read(10, 5), wave[10:15])
        with pytest.raises(ValueError, match="hold no sample"):
            audio.read(3 * RATE, 5)
