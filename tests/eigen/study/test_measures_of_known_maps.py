"""What is measured of maps that were made to share a frame, the image, something of their own, or nothing."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from eigenfeatures.eigen.study.chunks import SCALES, Chunk
from eigenfeatures.eigen.study.grids import slice_grid
from eigenfeatures.eigen.study.maps import SliceMaps
from eigenfeatures.eigen.study.measurement import all_pairs
from eigenfeatures.eigen.study.measures import pair_measures, run_measures

SIZE = (48, 56)
SLICES = 6
REACH = 4.0
INSIDE = np.s_[:, 4:-4, 4:-4]


def noise(seed, slices=SLICES):
    """White noise of unit variance: maps that share nothing from slice to slice."""
    return np.random.default_rng(seed).standard_normal((slices, *SIZE)).astype(np.float32)


def frame():
    """Bright where a map sees padding, and alike in every slice."""
    bright = np.ones(SIZE, np.float32)
    bright[INSIDE[1:]] = 0
    return 20 * bright


def gradients(slices=SLICES):
    """Images of structure at every scale, other ones for every slice."""
    image = gaussian_filter(np.abs(noise(99, slices)), (0, 1, 1)) * 10
    return np.stack([gaussian_filter(image, (0, scale, scale)) for scale in SCALES], axis=1)


def one_run(u1, alpha):
    """Maps of a run; measures don't ask for unit length."""
    known = np.ones(len(u1))
    return SliceMaps(u1[:, None], known[:, None], known, alpha, known, 1)


def chunk_of(*runs, samples=(0,) * SLICES, reach=REACH, others=None):
    """Slices of given samples; each run is (u₁, α), on the grid of the slice."""
    maps = [one_run(*run) for run in runs]
    count = len(samples)
    return Chunk(
        indices=np.arange(count),
        slices=np.zeros((count, *SIZE), np.uint8),
        gradients=gradients(count),
        maps=maps,
        grids=[slice_grid(SIZE)] * len(runs),
        reaches=[reach] * len(runs),
        samples=np.array(samples),
        consecutive=False,
        others=others,
    )


def of_pair(chunk):
    return {name: values[0] for name, values in pair_measures(chunk, all_pairs(2)).items()}


def three_samples(*runs):
    """A slice of each of three samples."""
    return chunk_of(*runs, samples=(0, 1, 2))


def test_a_static_frame_is_alike_in_slices_of_other_samples():
    """What padding leaves: high over all pixels and between samples, nothing away from the border."""
    others = three_samples(*((noise(seed, 3) + frame(), noise(seed, 3)) for seed in (10, 11)))
    runs = [(noise(seed) + frame(), noise(20 + seed)) for seed in (0, 1)]
    found = of_pair(chunk_of(*runs, others=others))
    for measure in ("pearson", "other_sample"):
        assert (found[f"u1/{measure}"] > 0.95).all()
        assert (np.abs(found[f"alpha/{measure}"]) < 0.1).all()
    for measure in ("inside", "beyond_image"):
        assert (np.abs(found[f"u1/{measure}"]) < 0.1).all()


def test_runs_that_see_the_same_in_a_slice_have_nothing_in_common_with_other_samples():
    """The negative control: what is the slice's own isn't found in other slices."""
    shared = noise(3)
    others = three_samples(*((noise(seed, 3), noise(seed, 3)) for seed in (10, 11)))
    runs = [(shared + 0.3 * noise(seed), noise(seed)) for seed in (0, 1)]
    chunk = chunk_of(*runs, others=others)
    found = of_pair(chunk)
    assert (found["u1/pearson"] > 0.85).all()
    assert (np.abs(found["u1/other_sample"]) < 0.1).all()
    assert (np.abs(run_measures(chunk)["u1/other_sample"]) < 0.1).all()


def test_other_samples_are_those_that_a_slice_is_not_of():
    """The mean over the two other samples of the correlation with the other run's map, by hand."""
    there = noise(10, 3) + frame() * np.array([0, 0.02, 0.1], np.float32)[:, None, None]
    others = three_samples((noise(11, 3), noise(12, 3)), (there, noise(13, 3)))
    here = noise(0) + 0.05 * frame()
    here[:2] = there[0] = noise(14, 1)  # the same map in a slice of the same sample counts for nothing
    samples = (0, 0, 1, 1, 2, 2)
    found = of_pair(chunk_of((here, here), (noise(1), noise(1)), samples=samples, others=others))
    for k, sample in enumerate(samples):
        alike = [np.corrcoef(here[k].ravel(), there[other].ravel())[0, 1] for other in {0, 1, 2} - {sample}]
        assert found["u1/other_sample"][k] == pytest.approx(np.mean(alike), abs=1e-6)
    assert np.ptp(found["u1/other_sample"]) > 0.1


def test_a_sample_without_a_map_is_left_out_of_the_mean():
    there = noise(10, 3)
    there[1] = 0  # no contrast
    here = np.repeat(there[2:], SLICES, axis=0)
    chunk = chunk_of((here, here), (here, here), others=three_samples(*[(there, there)] * 2))
    np.testing.assert_allclose(of_pair(chunk)["u1/other_sample"], 1, atol=1e-6)
    np.testing.assert_allclose(run_measures(chunk)["alpha/other_sample"], 1, atol=1e-6)


def test_without_another_sample_there_is_nothing_to_compare_with():
    runs = [(noise(seed), noise(seed)) for seed in (0, 1)]
    alone = chunk_of(*[(maps[:1], maps[:1]) for maps, _ in runs], samples=(0,))
    chunk = chunk_of(*runs)
    for others in (None, alone):
        for measured in (pair_measures, lambda one, _: run_measures(one)):
            values = measured(replace(chunk, others=others), all_pairs(2))["u1/other_sample"]
            assert np.isnan(values).all()


def test_what_runs_share_through_the_image_is_not_beyond_it():
    """Two runs that see blurred |∇Y| and noise of their own, whatever they make of each scale."""
    images = gradients()
    through = images[:, 0] - 2 * images[:, 3], 3 * images[:, 1] + images[:, 4]
    scaled = [image / image.std((1, 2), keepdims=True) for image in through]
    runs = [(scaled[k] + 0.5 * noise(k), noise(20 + k) + frame()) for k in (0, 1)]
    found = of_pair(chunk_of(*runs))
    assert (found["u1/inside"] > 0.4).all()
    assert (np.abs(found["u1/beyond_image"]) < 0.1).all()
    # And what they share beside it stays, to the part that it has of what the image leaves: 1/(1 + 0.5²).
    shared = noise(3)
    runs = [(maps + shared, alpha) for maps, alpha in runs]
    beyond = of_pair(chunk_of(*runs))["u1/beyond_image"]
    np.testing.assert_allclose(beyond, 0.8, atol=0.05)


def test_pixels_that_see_padding_count_for_nothing_inside_and_beyond_the_image():
    runs = [(noise(seed) + 0.5 * noise(9), noise(seed)) for seed in (0, 1)]
    painted = [(u1.copy(), alpha.copy()) for u1, alpha in runs]
    for u1, alpha in painted:
        for maps in (u1, alpha):
            inner = maps[INSIDE].copy()
            maps[:] = 100 * noise(5)
            maps[INSIDE] = inner
    before, after = of_pair(chunk_of(*runs)), of_pair(chunk_of(*painted))
    for kind in ("u1", "alpha"):
        for measure in ("inside", "beyond_image"):
            np.testing.assert_array_equal(after[f"{kind}/{measure}"], before[f"{kind}/{measure}"])
        assert (after[f"{kind}/pearson"] > before[f"{kind}/pearson"] + 0.3).all()


@pytest.mark.parametrize(("reach", "known"), [(21.5, True), (22, True), (22.5, False), (30, False)])
def test_few_pixels_inside_say_nothing(reach, known):
    """Of 48 rows, from the 22nd to the 25th: four."""
    runs = [(noise(seed) + noise(9), noise(seed)) for seed in (0, 1)]
    found = of_pair(chunk_of(*runs, reach=reach))
    for measure in ("inside", "beyond_image"):
        assert (np.isfinite(found[f"u1/{measure}"]) == known).all()
    assert np.isfinite(found["u1/pearson"]).all()


def test_how_well_blurred_images_fit_a_map_has_no_sign():
    images = gradients()
    mix = images[:, 0] - 2 * images[:, 2] + 0.5 * images[:, 4]
    found = run_measures(chunk_of((mix, -mix), (noise(0), -noise(0))))
    np.testing.assert_allclose(found["u1/image"][0], 1, atol=1e-4)
    np.testing.assert_allclose(found["alpha/image"][0], 1, atol=1e-4)
    for scale in SCALES:
        np.testing.assert_allclose(found[f"alpha/image{scale}"], -found[f"u1/image{scale}"], atol=1e-6)
        assert (np.abs(found[f"u1/image{scale}"][0]) < 0.98).all()
    # Noise: what five images fit by chance, √(5 / 2687), is near to nothing.
    assert (found["u1/image"][1] < 0.1).all()
    np.testing.assert_array_equal(found["alpha/image"][1], found["u1/image"][1])
