"""The Gram matrix of response maps (paper, eq. 16)."""

from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eigenfeatures.kernels.arrays import Foreign, ForeignArray, stacked, working_dtype
from eigenfeatures.kernels.call import Backend, Call


@overload
def gram(responses: Foreign, *, backend: Backend = ..., stream: object = ...) -> Foreign: ...
@overload
def gram(responses: ArrayLike, *, backend: Backend = ..., stream: object = ...) -> NDArray[np.float64]: ...
def gram(
    responses: ArrayLike | ForeignArray, *, backend: Backend = "auto", stream: object = None
) -> NDArray[np.float64] | ForeignArray:
    """Multiply the response maps of each slice with each other: XᵀX (paper, eq. 16).

    X is n × C with the maps as columns, so entry (i, j) is the inner product of maps i and j. The
    eigenvectors are the right singular vectors of X, the eigenvalues its squared singular values.

    On the CPU, products and sums over at most 640 pixels are made in float32, or in float64 for float64
    responses, and the sums beyond in float64. So the error doesn't grow with the number of pixels: in
    float32 that of entry (i, j) is at most ``640 · 2⁻²⁴ ‖x_i‖ ‖x_j‖`` (Higham 2002, section 3.1).
    A slice with a map whose sum of squares is beyond ``2**±64`` is done in float64. The bits don't
    depend on the number of threads. On a GPU cuBLAS makes the products and sums.

    The matrix is exactly symmetric.

    Parameters
    ----------
    responses
        Response maps ``(..., C, h, w)``, integers or floats.
    backend, stream
        Where to compute; see `gradient_magnitude`.

    Returns
    -------
    array
        ``(..., C, C)``, float64, in squared units of the responses. A map with a NaN gives NaN in its
        row and column, an infinite one infinity or NaN; other entries and slices are unharmed.

    Raises
    ------
    TypeError
        Where the elements are not real numbers.
    ValueError
        Where there are fewer than three axes, no channels or no pixels.
    OSError
        As of `gradient_magnitude`.

    Notes
    -----
    About C² n multiplications and additions a slice.

    References
    ----------
    N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, SIAM 2002.

    Examples
    --------
    Two maps of three pixels:

    >>> import numpy as np
    >>> gram(np.array([[[1, 2, 3]], [[0, 1, -1]]]))
    array([[14., -1.],
           [-1.,  2.]])
    """
    with Call(backend, stream, responses=responses) as call:
        given = call.input("responses", trailing=3)
        leading, channels = given.shape[:-3], given.shape[-3]
        maps = stacked(given, 3).reshape(-1, channels, given.shape[-2] * given.shape[-1])
        matrices: NDArray[np.float64] = call.loops("gram").correlations(maps, working_dtype(given))
        return call.result(matrices.reshape((*leading, channels, channels)))
