"""The one table of peers: what a user could call instead of a kernel, and how its answer is checked."""

from peers import (
    cuda_gradients,
    cuda_inference,
    cuda_maps,
    cuda_svd,
    eigencam,
    gradients,
    inference,
    maps,
    statistics,
    streaming,
    svd,
)
from peers.table import Operation

OPERATIONS: tuple[Operation, ...] = (
    *gradients.OPERATIONS,
    *statistics.OPERATIONS,
    *maps.OPERATIONS,
    *svd.OPERATIONS,
    *streaming.OPERATIONS,
    *eigencam.OPERATIONS,
    *inference.OPERATIONS,
    *cuda_gradients.OPERATIONS,
    *cuda_maps.OPERATIONS,
    *cuda_svd.OPERATIONS,
    *cuda_inference.OPERATIONS,
)
