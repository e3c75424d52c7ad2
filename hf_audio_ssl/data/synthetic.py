# Copyright 2026 The hf_audio_ssl team. Licensed under the Apache License, Version 2.0.
"""The built-in corpus: 18 classes of sounds synthesised from a seed, for demos, tests and benchmarks.

Each clip is a pure function of `(seed, index)`. Pitch, loudness, onset, spectral tilt, resonances, room and background
noise are drawn at random for every clip and independently of the class, so that neither loudness nor the average
spectrum tells the classes apart. What does is how a sound develops in time: many classes share their source and differ
in envelope, rhythm or direction only (a bell and the same bell reversed; a rising and a falling chirp; clicks that are
regular, random or accelerating).

Physical models after: K. Karplus and A. Strong, "Digital synthesis of plucked-string and drum timbres" (1983);
J. Chowning, "The synthesis of complex audio spectra by means of frequency modulation" (1973); J.-M. Adrien, "The
missing link: modal synthesis" (1991); G. Peterson and H. Barney's vowel formants (1952).
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

_NYQUIST_SHARE = 0.45  # partials stay below this share of the sampling rate


def _log_uniform(rng, low, high, size=None):
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


def _shape_spectrum(wave, gain, rate):
    """Filter `wave` with the frequency response `gain(frequencies in Hz)`."""
    spectrum = np.fft.rfft(wave)
    return np.fft.irfft(spectrum * gain(np.fft.rfftfreq(len(wave), 1 / rate)), len(wave))


def _resonance(frequency, centre, quality):
    """Magnitude of a second-order resonance (band-pass, 1 at its centre)."""
    ratio = np.maximum(frequency, 1.0) / centre
    return 1 / np.sqrt(1 + (quality * (ratio - 1 / ratio)) ** 2)


def _smooth_noise(rng, time, rate_hz):
    """A random curve in [-1, 1] that wanders `rate_hz` times a second (linear between random points)."""
    points = int(time[-1] * rate_hz) + 3
    return np.interp(time, np.arange(points) / rate_hz, rng.uniform(-1, 1, points))


def _partials(time, frequencies, amplitudes, decays, phases, rate):
    """Sum of decaying sines; partials above the limit are left out."""
    keep = frequencies < _NYQUIST_SHARE * rate
    step = np.exp((-decays[keep] + 2j * np.pi * frequencies[keep]) / rate)
    # z^n = z^(B*i) * z^j for n = B*i + j: a matrix product instead of len(time) exponentials per partial
    block = int(np.sqrt(len(time))) + 1
    inner = step[:, None] ** np.arange(block)
    outer = (step**block)[:, None] ** np.arange(block)
    weights = amplitudes[keep] * np.exp(1j * phases[keep])
    return ((outer * weights[:, None]).T @ inner).imag.ravel()[: len(time)]


def _harmonic_source(rng, time, pitch, rate, tilt):
    """Band-limited harmonic sound with instantaneous pitch `pitch` (samples,) in Hz and amplitudes k^-tilt."""
    count = int(np.clip(_NYQUIST_SHARE * rate / pitch.max(), 1, 24))
    cycle = 1024
    table = np.arange(cycle) / cycle
    harmonics = np.arange(1, count + 1)
    phases = rng.uniform(0, 2 * np.pi, count)
    one = (harmonics**-tilt * np.sin(2 * np.pi * table[:, None] * harmonics + phases)).sum(1)
    position = np.cumsum(pitch) / rate % 1.0
    return np.interp(position, np.append(table, 1.0), np.append(one, one[0]))


def _burst(rng, length, rate, decay):
    """A noise burst that decays by `decay` nepers a second."""
    return rng.standard_normal(length) * np.exp(-decay * np.arange(length) / rate)


def _fast_length(length):
    """The next length without large prime factors, for which the Fourier transform is quick."""
    return min(m * 2 ** max(0, int(np.ceil(np.log2(length / m)))) for m in (1, 3, 5, 9, 15))


def _place(length, sound, starts, gains):
    """Copies of `sound` at the sample positions `starts`, by one convolution."""
    impulses = np.zeros(length)
    np.add.at(impulses, starts[starts < length], gains[starts < length])
    size = _fast_length(length + len(sound))
    return np.fft.irfft(np.fft.rfft(impulses, size) * np.fft.rfft(sound, size), size)[:length]


def _click(rng, rate):
    """One click: a short burst with a random resonance."""
    click = _burst(rng, int(0.05 * rate), rate, _log_uniform(rng, 80, 600))
    centre, quality = _log_uniform(rng, 700, 4500), _log_uniform(rng, 0.8, 4)
    return _shape_spectrum(click, lambda f: _resonance(f, centre, quality), rate)


def _bell_partials(rng, time, rate):
    count = rng.integers(6, 14)
    base = _log_uniform(rng, 250, 1400)
    ratios = np.sort(rng.uniform(1, 9, count))
    ratios[0] = 1.0
    decays = _log_uniform(rng, 1.5, 5) * (1 + 0.25 * (ratios - 1))
    amplitudes = rng.uniform(0.2, 1, count) * ratios ** -rng.uniform(0, 1)
    return _partials(time, base * ratios, amplitudes, decays, rng.uniform(0, 2 * np.pi, count), rate)


# ---- sounds ----
# Each takes (rng, time (samples,) in seconds, rate in Hz) and returns (samples,) float64 of any level.


def plucked_string(rng, time, rate):
    """Karplus-Strong: a noise burst circulates through a delay line and a two-point mean."""
    period = int(rate / _log_uniform(rng, 80, 900)) + 1
    loss = 10 ** (-3 * period / rate / rng.uniform(0.6, 2.5))  # 60 dB after 0.6 to 2.5 s
    line = rng.uniform(-1, 1, period + 1)
    wave = np.empty((len(time) // period + 1, period))
    for row in wave:
        row[:] = loss * 0.5 * (line[1:] + line[:-1])
        line[0], line[1:] = line[-1], row
    return wave.ravel()[: len(time)]


def bowed_string(rng, time, rate):
    """Helmholtz motion (sawtooth) with a slow attack, vibrato and bow noise."""
    vibrato = rng.uniform(0.003, 0.02) * np.sin(2 * np.pi * rng.uniform(4, 7) * time + rng.uniform(0, 6))
    source = _harmonic_source(rng, time, _log_uniform(rng, 80, 900) * (1 + vibrato), rate, 1.0)
    attack, release = rng.uniform(0.15, 0.5), rng.uniform(0.1, 0.4)
    envelope = np.clip(time / attack, 0, 1) * np.clip((time[-1] - time) / release, 0, 1)
    return envelope * (source + rng.uniform(0.02, 0.2) * rng.standard_normal(len(time)))


def bell(rng, time, rate):
    """Inharmonic modes that are struck together and ring out."""
    return _bell_partials(rng, time, rate)


def reversed_bell(rng, time, rate):
    """The same modes swelling up to a sudden stop."""
    return _bell_partials(rng, time, rate)[::-1]


def drum(rng, time, rate):
    """Strokes on a circular membrane: zeros of Bessel functions as modes, pitch that sags, a noisy beater."""
    modes = np.array([1.0, 1.594, 2.136, 2.296, 2.653, 2.918, 3.156, 3.501, 3.6, 4.06])
    span = time[: int(0.5 * rate)]
    base, decay = _log_uniform(rng, 60, 500), _log_uniform(rng, 8, 25)
    warped = span + rng.uniform(0, 0.03) * (1 - np.exp(-span / 0.03))  # sagging pitch: time runs faster at first
    amplitudes = rng.uniform(0.2, 1, len(modes))
    stroke = (amplitudes * np.sin(2 * np.pi * base * modes * warped[:, None])).sum(1) * np.exp(-decay * span)
    stroke += _burst(rng, len(span), rate, 120) * rng.uniform(0.3, 2)
    beat = rng.uniform(0.14, 0.4)
    steps = np.flatnonzero(rng.random(int(time[-1] / beat) + 1) < 0.8)  # a rhythm on a grid, with rests
    starts = (np.append(0, steps) * beat * rate).astype(int)
    return _place(len(time), stroke, starts, rng.uniform(0.3, 1, len(starts)))


def fm_tone(rng, time, rate):
    """Chowning's frequency modulation: the index, and so the brightness, rises and falls periodically."""
    carrier = _log_uniform(rng, 150, 1000)
    ratio = rng.choice([0.5, 1.0, 1.41, 2.0, 3.0])
    index = rng.uniform(2, 5) * (1 + np.sin(2 * np.pi * rng.uniform(1.5, 5) * time + rng.uniform(0, 6)))
    return np.sin(2 * np.pi * carrier * time + index * np.sin(2 * np.pi * carrier * ratio * time))


def _sweep(rng, time, rate, direction):
    low = _log_uniform(rng, 200, 700)
    high = min(low * _log_uniform(rng, 2.0, 8.0), _NYQUIST_SHARE * rate)
    length = rng.uniform(0.35, 0.9)
    phase = np.clip(time % (length * 1.15) / length, 0, 1)  # repeated, with a short rest
    pitch = low * (high / low) ** (phase if direction > 0 else 1 - phase)
    return _harmonic_source(rng, time, pitch, rate, rng.uniform(0.8, 3)) * np.sin(np.pi * phase) ** 0.5


def rising_chirp(rng, time, rate):
    """Exponential sweeps upwards."""
    return _sweep(rng, time, rate, +1)


def falling_chirp(rng, time, rate):
    """Exponential sweeps downwards."""
    return _sweep(rng, time, rate, -1)


def bird(rng, time, rate):
    """Phrases of quick notes, each a syringeal arch of pitch, with pauses between the phrases."""
    notes, centre = rng.uniform(7, 16), _log_uniform(rng, 900, 3000)
    phase = time * notes % 1
    arch = rng.uniform(0.1, 0.5) * np.sin(np.pi * phase + rng.uniform(-1, 1))
    number = (time * notes).astype(int)
    offsets = rng.uniform(-0.25, 0.25, number[-1] + 1)
    pitch = np.clip(centre * (1 + arch + offsets[number]), 50, _NYQUIST_SHARE * rate)
    sung = np.sin(2 * np.pi * rng.uniform(0.6, 1.5) * time + rng.uniform(0, 6)) > -0.5
    return _harmonic_source(rng, time, pitch, rate, rng.uniform(2, 4)) * np.clip(np.sin(np.pi * phase), 0, 1) * sung


def siren(rng, time, rate):
    """One pitch gliding slowly up and down."""
    glide = np.sin(2 * np.pi * rng.uniform(0.5, 2.5) * time + rng.uniform(0, 6))
    pitch = _log_uniform(rng, 250, 900) * 2 ** (rng.uniform(0.4, 1.0) * glide)
    return _harmonic_source(rng, time, np.minimum(pitch, _NYQUIST_SHARE * rate), rate, rng.uniform(0.8, 3))


def engine(rng, time, rate):
    """Firing pulses of a motor whose speed drifts; uneven cylinders, exhaust resonances."""
    speed = _log_uniform(rng, 18, 60) * (1 + 0.35 * _smooth_noise(rng, time, 1.5))
    fired = np.flatnonzero(np.diff(np.floor(np.cumsum(speed) / rate)))
    cylinders = rng.uniform(0.4, 1, 4)
    return _place(len(time), _click(rng, rate), fired, cylinders[np.arange(len(fired)) % 4])


def voice(rng, time, rate):
    """Syllables: a glottal source through formants that move from vowel to vowel."""
    vowels = np.array([[270, 2290, 3010], [530, 1840, 2480], [730, 1090, 2440], [570, 840, 2410], [300, 870, 2240]])
    glide = np.exp(0.15 * _smooth_noise(rng, time, 3))
    source = _harmonic_source(rng, time, _log_uniform(rng, 90, 380) * glide, rate, rng.uniform(0.6, 1.2))
    tract = rng.uniform(0.85, 1.25)  # length of the vocal tract
    syllables = rng.uniform(3, 6)
    position = time * syllables
    chosen = rng.integers(0, len(vowels), int(position[-1]) + 2)
    nearness = np.stack([np.interp(position, np.arange(len(chosen)), chosen == v) for v in range(len(vowels))])
    spectrum, frequency = np.fft.rfft(source), np.fft.rfftfreq(len(time), 1 / rate)
    wave = np.zeros(len(time))
    for weight, formants in zip(nearness, vowels * tract, strict=True):
        if weight.any():
            response = sum(_resonance(frequency, f, 8) * a for f, a in zip(formants, (1, 0.5, 0.25), strict=True))
            wave += weight * np.fft.irfft(spectrum * response, len(time))
    return wave * (0.08 + np.abs(np.sin(np.pi * position))) * (1 + 0.05 * rng.standard_normal(len(time)))


def wind(rng, time, rate):
    """Noise through a whistle whose centre and strength wander."""
    noise = rng.standard_normal(len(time))
    centres = _log_uniform(rng, 200, 1500) * 2.0 ** np.arange(-1, 2)
    quality = rng.uniform(1.5, 6)
    bands = [_shape_spectrum(noise, lambda f, c=c: _resonance(f, c, quality), rate) for c in centres]
    where = 1 + _smooth_noise(rng, time, 1.5)
    mixed = sum(np.clip(1 - np.abs(where - k), 0, 1) * band for k, band in enumerate(bands))
    return mixed * np.exp(0.8 * _smooth_noise(rng, time, 1.5))


def rotor(rng, time, rate):
    """Noise chopped 5 to 14 times a second."""
    chop = (0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(5, 14) * time + rng.uniform(0, 6))) ** rng.uniform(1, 4)
    return rng.standard_normal(len(time)) * (0.05 + chop)


def rain(rng, time, rate):
    """Drops: clicks at random moments, some hundred a second."""
    count = int(_log_uniform(rng, 60, 400) * time[-1])
    starts = rng.integers(0, len(time), count)
    return _place(len(time), _click(rng, rate), starts, rng.exponential(1, count) ** 1.5)


def ticking(rng, time, rate):
    """Clicks at equal distances, 3 to 9 a second."""
    starts = (np.arange(0, time[-1], 1 / rng.uniform(3, 9)) * rate).astype(int)
    tick_tock = rng.uniform(0.4, 1, 2)
    return _place(len(time), _click(rng, rate), starts, tick_tock[np.arange(len(starts)) % 2])


def crackling(rng, time, rate):
    """The same clicks at random moments, 3 to 9 a second."""
    count = max(2, int(rng.uniform(3, 9) * time[-1]))
    return _place(len(time), _click(rng, rate), rng.integers(0, len(time), count), rng.uniform(0.4, 1, count))


def bouncing(rng, time, rate):
    """A ball let fall: each bounce comes sooner and weaker than the last, until it is dropped again."""
    restitution, first = rng.uniform(0.72, 0.88), rng.uniform(0.25, 0.45)
    bounce = np.arange(40)
    falls = np.append(0, np.cumsum(first * restitution**bounce))
    repeat = falls[-1] * rng.uniform(1, 1.2)
    starts = np.concatenate([falls + k * repeat for k in range(int(time[-1] / repeat) + 1)])
    gains = np.tile(np.append(1, restitution ** (bounce + 1)), len(starts) // len(falls))
    return _place(len(time), _click(rng, rate), (starts * rate).astype(int), gains)


SOUNDS = (
    plucked_string, bowed_string, bell, reversed_bell, drum, fm_tone, rising_chirp, falling_chirp,
    bird, siren, engine, voice, wind, rotor, rain, ticking, crackling, bouncing,
)  # fmt: skip
LABEL_NAMES = tuple(sound.__name__ for sound in SOUNDS)


def label_of(index: int) -> int:
    """Class of clip `index`: all classes in turn."""
    return index % len(SOUNDS)


def synthesize(seed: int, index: int, seconds: float = 2.0, sampling_rate: int = 16000) -> np.ndarray:
    """Clip `index` of the corpus with this seed: float32 `(samples,)` in [-1, 1], of class `label_of(index)`.

    Raises:
        ValueError: negative seed or index, less than 0.1 s, or a sampling rate under 8 kHz.
    """
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index must not be negative, got seed={seed} and index={index}")
    if seconds < 0.1 or sampling_rate < 8000:
        raise ValueError(f"expected at least 0.1 seconds at 8000 Hz, got {seconds} seconds at {sampling_rate} Hz")
    rng, rate = np.random.default_rng((seed, index)), sampling_rate
    length = round(seconds * rate)
    onset = int(rng.uniform(0, 0.2) * length)
    time = np.arange(length) / rate
    sound = SOUNDS[label_of(index)](rng, time, rate)
    dry = np.concatenate([np.zeros(onset), sound[: length - onset]])
    wet = _recorded(rng, dry, rate)
    wet /= np.sqrt(np.mean(wet**2)) + 1e-9
    noise = _shape_spectrum(rng.standard_normal(length), _random_colour(rng), rate)
    noise /= np.sqrt(np.mean(noise**2)) + 1e-9
    wave = wet + 10 ** (-rng.uniform(12, 40) / 20) * noise
    wave *= 10 ** (-rng.uniform(1, 25) / 20) / np.abs(wave).max()  # peak between -25 and -1 dB of full scale
    return wave.astype(np.float32)


def _random_colour(rng):
    """A random microphone: spectral tilt of -2 to +1 dB an octave, and three peaks or dips."""
    tilt = rng.uniform(-0.35, 0.15)
    centres, qualities, gains = (
        _log_uniform(rng, 100, 7000, 3),
        _log_uniform(rng, 0.5, 4, 3),
        rng.uniform(-0.6, 0.9, 3),
    )

    def gain(frequency):
        peaks = sum(g * _resonance(frequency, c, q) for g, c, q in zip(gains, centres, qualities, strict=True))
        return np.maximum(frequency, 50.0) ** tilt * np.exp(peaks)

    return gain


def _recorded(rng, wave, rate):
    """`wave` in a room (decaying noise, 60 dB after 0.1 to 0.7 s, up to 0.6 of the direct sound) by a microphone."""
    length = int(0.35 * rate)
    room = _burst(rng, length, rate, 6.9 / rng.uniform(0.1, 0.7))
    room *= rng.uniform(0.0, 0.6) / np.sqrt(np.sum(room**2))
    room[0] += 1.0
    size = _fast_length(len(wave) + length)
    response = np.fft.rfft(room, size) * _random_colour(rng)(np.fft.rfftfreq(size, 1 / rate))
    return np.fft.irfft(np.fft.rfft(wave, size) * response, size)[: len(wave)]


class SyntheticClips(Sequence):
    """`num_clips` clips as audio dicts `{"array", "sampling_rate", "path"}`, each synthesised when it is read."""

    def __init__(self, num_clips: int, seed: int = 0, seconds: float = 2.0, sampling_rate: int = 16000):
        if num_clips < 1:
            raise ValueError(f"num_clips must be at least 1, got {num_clips}")
        self.num_clips, self.seed, self.seconds, self.sampling_rate = num_clips, seed, seconds, sampling_rate

    def __len__(self):
        return self.num_clips

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < self.num_clips:
            raise IndexError(f"clip {index} of {self.num_clips}")
        wave = synthesize(self.seed, index, self.seconds, self.sampling_rate)
        return {"array": wave, "sampling_rate": self.sampling_rate, "path": self.path(index)}

    def path(self, index: int) -> str:
        """A name for clip `index`."""
        return f"synthetic/{self.seed}/{index}_{LABEL_NAMES[label_of(index)]}"


def write_corpus(
    directory: str | Path, num_clips: int, seed: int = 0, seconds: float = 2.0, sampling_rate: int = 16000
) -> Path:
    """Write the corpus as 16-bit WAV files and a `metadata.csv` with columns `file_name,label`; returns the directory.

    That is the layout of `datasets`' "audiofolder"; `open_corpus(directory)` reads it too.
    """
    import soundfile

    clips = SyntheticClips(num_clips, seed, seconds, sampling_rate)
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    rows = []
    for index in range(num_clips):
        label = LABEL_NAMES[label_of(index)]
        name = f"{index:06d}_{label}.wav"
        soundfile.write(directory / name, clips[index]["array"], sampling_rate, subtype="PCM_16")
        rows.append((name, label))
    with open(directory / "metadata.csv", "w", newline="", encoding="utf-8") as file:  # last: a whole corpus has it
        csv.writer(file).writerows([("file_name", "label"), *rows])
    return directory
