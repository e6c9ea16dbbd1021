"""Truncated SVD of responses that are never held whole: two passes over parts of them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eigenfeatures.kernels import host_parts
from eigenfeatures.kernels.arrays import Foreign, ForeignArray, flag, whole_number, working_dtype
from eigenfeatures.kernels.call import Call
from eigenfeatures.kernels.moments import Moments, joined
from eigenfeatures.kernels.second_pass import SecondPass, StreamedSVD, begun


class StreamingSVD:
    """Truncated SVD of responses that come in parts and are never held whole.

    X is n × C with the response maps as columns (paper, eq. 14), and its n pixels are all that were
    added: tiles of one slice that is too large to hold, or the slices of a data set side by side.
    It takes two passes:

    1. `add` every part, in any order, and `finish`: singular values and right vectors.
    2. `left` of every part again: its piece of the left vectors, whose norm is 1 over the whole.
       Then `residual` tells how exact they are, measured.

    Arrays of a GPU, of CuPy or torch, are worked on there, on their library's current stream, and only sums
    of the size C × C come to the host; parts of one stream may lie in different places.

    Several workers can share a pass, each with an object of its own; `merge` joins them. An object can be
    pickled at any time, and is for one thread at a time.

    What holds for any input: ``residual <= 1e-5``; left vectors are orthogonal to 10⁻⁴; singular
    values up to 5·10⁻⁶ of s_1 are given as 0, with ``u_i = 0``. Nothing is iterated, so there is no
    tolerance to choose. How the responses are cut and who adds them changes singular values by about
    10⁻¹⁵ of s_1; by about 10⁻⁸, and never by more than 5·10⁻⁶, where products are summed in float32.

    Signs: where all responses are at least 0, as after a ReLU, u_1 can be chosen so (Perron–Frobenius)
    and has ``sum(u_1) >= 0``, as in `truncated_svd`. All other vectors point the way of most of the
    maps' energy, ``Σ v|v| >= 0``: the rule of Bro, Acar and Kolda for the columns of X alone.
    `truncated_svd` adds their rule for its rows, ``Σ u|u|``, which the first pass can't know, so these
    signs may differ.

    Parameters
    ----------
    rank
        Number of triplets, from 1 to C. Those beyond the rank of X have ``s_i = 0``.
    center
        Subtract each map's mean over the whole stream, as EigenCAM does: another quantity than the
        paper's. The means and products of parts are joined by the update of Chan, Golub and LeVeque,
        which keeps its digits where means are large against deviations; ``XᵀX − n m mᵀ`` loses them.

    Raises
    ------
    TypeError
        Where the rank is no whole number, or `center` is neither True nor False.
    ValueError
        Where it is less than 1.

    Notes
    -----
    The first pass takes about C² n multiplications and additions in float64; the second
    takes 2 C n for each triplet, half of them for the residual. On the CPU, where rank 1 is asked for and
    nothing is centred, 640 pixels at a time of float32 and short integers are multiplied in float32 unless
    any value of theirs is below zero: that keeps all that is promised (see ``kernels/cpu/streaming.py``),
    in half the time.

    Held are three C × C matrices, at work sixteen more, and for each thread 640 pixels in float64; on a GPU
    128 MB of them, or 1,024 pixels, and up to four times as much of what is made of them. A part that isn't
    contiguous or of another type than 8-bit and 16-bit unsigned integers, float32 and float64 is copied, and
    so is each slice that is of integers. Sums over blocks of 40,960 pixels are compensated (Ogita, Rump,
    Oishi), so that their error doesn't grow with the stream.

    References
    ----------
    R. Bro, E. Acar, T. Kolda, J. Chemometrics 22 (2008) 135, doi:10.1002/cem.1122.
    T. F. Chan, G. H. Golub, R. J. LeVeque, The American Statistician 37 (1983) 242,
    doi:10.1080/00031305.1983.10483115.
    T. Ogita, S. M. Rump, S. Oishi, SIAM J. Sci. Comput. 26 (2005) 1955, doi:10.1137/030601818.

    Examples
    --------
    Responses of four channels, in bands of 20 rows:

    >>> import numpy as np
    >>> responses = np.random.default_rng(0).random((4, 100, 30), dtype=np.float32)
    >>> bands = [responses[:, top : top + 20] for top in range(0, 100, 20)]
    >>> stream = StreamingSVD(rank=2)
    >>> for band in bands:
    ...     stream.add(band)
    >>> svd = stream.finish()
    >>> svd.pixels, svd.v.shape
    (3000, (2, 4))
    >>> u = np.concatenate([stream.left(band) for band in bands], axis=-2)
    >>> u.shape
    (2, 100, 30)
    >>> bool(abs(np.linalg.norm(u[0]) - 1) < 1e-6), stream.residual < 1e-5
    (True, True)
    """

    def __init__(self, rank: SupportsIndex = 1, *, center: bool = False) -> None:
        self._rank = whole_number(rank, "rank", "1 to C")
        if self._rank < 1:
            raise ValueError(f"rank {rank} is out of range; give 1 or more")
        self._center = flag(center, "center")
        self._moments: Moments | None = None
        self._second: SecondPass | None = None

    def add(self, responses: ArrayLike | ForeignArray) -> None:
        """Take a part into the first pass.

        Parameters
        ----------
        responses
            Response maps ``(..., C, h, w)``, integers or floats; slices of leading axes lie side
            by side. h and w may change from part to part.

        Raises
        ------
        TypeError
            Where the elements are not real numbers.
        ValueError
            Where there are fewer than three axes, no pixels, other channels than before or fewer
            than the rank; where a value is NaN or infinite, with its place; and after `finish`.
            Nothing of the part was added then, and the stream can go on without it.
        """
        with Call("auto", responses=responses) as call:
            given = call.input("responses", trailing=3)
            if self._second is not None:
                raise ValueError("the first pass is finished; add to a new StreamingSVD")
            self._check_channels(given.shape[-3])
            moments = self._moments
            try:
                for x in _rows(given):
                    for block in self._block_moments(call, x):
                        moments = joined(moments, block, self._center)
            except FloatingPointError:
                bad = _unusable(given, call.xp)
                raise ValueError(f"responses hold {bad}; nothing of them was added") from None
            self._moments = moments

    def merge(self, other: "StreamingSVD") -> None:
        """Take in what another worker's object has gathered in the same pass.

        In the first pass these are the parts that were added to `other`. In the second, for which
        all workers have copies of one finished object, these are its measurements for `residual`.

        Raises
        ------
        TypeError
            Where `other` is none.
        ValueError
            Where `other` is this very object; where the two differ in rank, centring or channels, where only
            one has finished its first pass, and where both have, but not as copies of one.
        """
        if not isinstance(other, StreamingSVD):
            raise TypeError(f"other is of {type(other).__name__}; give a StreamingSVD")
        if other is self:
            raise ValueError("other is the stream itself, whose parts would count twice")
        if (self._rank, self._center) != (other._rank, other._center):
            raise ValueError("the two streams differ in rank or centring")
        if (self._second is None) != (other._second is None):
            raise ValueError("only one of the two streams has finished its first pass")
        if self._second is not None and other._second is not None:
            if not _same(self._second.svd, other._second.svd):
                raise ValueError("the two streams were finished apart; merge, finish, then copy")
            _, _, pixels, squares, across = other._second
            self._second = self._second.counting(pixels, squares, across)
        elif other._moments is not None:
            self._check_channels(len(other._moments.mean))
            self._moments = joined(self._moments, other._moments, self._center)

    def finish(self) -> StreamedSVD:
        """End the first pass and decompose what was added; once finished, give the same again.

        Raises
        ------
        ValueError
            Where nothing was added.
        """
        svd = self._finished().svd
        return replace(svd, s=svd.s.copy(), v=svd.v.copy())

    @overload
    def left(self, responses: Foreign) -> Foreign: ...
    @overload
    def left(self, responses: ArrayLike) -> NDArray[Any]: ...
    def left(self, responses: ArrayLike | ForeignArray) -> NDArray[Any] | ForeignArray:
        """Return a part's piece of the left singular vectors, and take it into the second pass.

        Finishes the first pass. Parts may be cut otherwise than in the first.

        Parameters
        ----------
        responses
            Response maps ``(..., C, h, w)``, as for `add`.

        Returns
        -------
        array
            ``(..., rank, h, w)`` of the responses' library and device, float64 for responses of float64 and
            integers of 32 and 64 bits, else float32. The squares of ``[..., i, :, :]`` sum to 1 over all
            parts.

        Raises
        ------
        TypeError
            Where the elements are not real numbers.
        ValueError
            Where nothing was added; where there are fewer than three axes, no pixels or other
            channels; where a value is NaN or infinite, with its place. The part doesn't count then.
        """
        with Call("auto", responses=responses) as call:
            given = call.input("responses", trailing=3)
            self._check_channels(given.shape[-3])
            second = self._finished()
            loops = _loops(call)
            u = call.output((*given.shape[:-3], self._rank, *given.shape[-2:]), working_dtype(given))
            for x, part in zip(_rows(given), _rows(u), strict=True):
                measured = loops.left_vectors(x, second.mean, second.svd, part)
                second = second.counting(x.shape[1], *measured)
            if not np.isfinite(second.across).all():
                bad = _unusable(given, call.xp)
                raise ValueError(f"responses hold {bad}; nothing of them was counted")
            self._second = second
            return call.result(u)

    @property
    def residual(self) -> float:
        """Measured ``max_i max(‖X v_i − s_i u_i‖, ‖Xᵀ u_i − s_i v_i‖) / s_1`` of the second pass.

        Parts of other responses than those that were added show in it.

        Raises
        ------
        ValueError
            Where the second pass hasn't gone over as many pixels as the first.
        """
        if self._second is None or self._moments is None or self._second.pixels != self._moments.pixels:
            seen = self._second.pixels if self._second else 0
            added = self._moments.pixels if self._moments else 0
            raise ValueError(f"the second pass went over {seen} pixels of the {added} that were added")
        return self._second.residual()

    def _block_moments(self, call: Call, x: Any) -> Iterator[Moments]:
        if call.on_gpu:
            blocks: Iterator[Moments] = call.loops("streaming").block_moments(x, self._center)
            return blocks
        return host_parts.block_moments(x, self._center, first_only=self._rank == 1)

    def _finished(self) -> SecondPass:
        if self._second is None:
            if self._moments is None:
                raise ValueError("nothing was added yet, so there is nothing to decompose")
            self._second = begun(self._moments, self._rank, self._center)
        return self._second

    def _check_channels(self, channels: int) -> None:
        if self._moments is not None and channels != len(self._moments.mean):
            raise ValueError(
                f"responses have {channels} channels, and those before {len(self._moments.mean)}"
            )
        if channels < self._rank:
            raise ValueError(f"rank {self._rank} is out of range; give 1 to {channels}, the channels")


def _same(one: StreamedSVD, other: StreamedSVD) -> bool:
    """Tell whether two decompositions are of the same sums, so that their left vectors fit together."""
    return (one.pixels, one.energy) == (other.pixels, other.energy) and all(
        np.array_equal(a, b) for a, b in ((one.s, other.s), (one.v, other.v))
    )


def _loops(call: Call) -> Any:
    """Return the module for parts that lie where the call computes."""
    return call.loops("streaming") if call.on_gpu else host_parts


def _rows(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield each slice (C, h, w) of a contiguous array as rows (C, n)."""
    for place in np.ndindex(array.shape[:-3]):
        yield array[place].reshape(array.shape[-3], -1)


def _unusable(responses: NDArray[Any], xp: Any) -> str:
    """Say what makes the sums over responses NaN or infinite."""
    bad = ~xp.isfinite(responses)
    if not bad.any():
        return "values far beyond those of the first pass"
    place = tuple(int(k) for k in np.unravel_index(int(bad.argmax()), bad.shape))
    return f"{float(responses[place])} at {list(place)}"
