"""The products as JAX primitives: differentiation, batching, partitioning, and the plan made in the lowering.

Two layers. The *outer* primitive (`primitives.py`) is what AD, batching and the program see; one of its parameters is a jaxpr
that calls `custom_partitioning`. The *inner* primitive (`local.py`) is what each device runs: in its lowering `m` is the
shard's own, the platform is known, and the planner is asked.

    spmm(x [..., K], weight) -> [..., N]                         y = x @ W, or x @ W.T
    sddmm(x [..., K], g [..., N]) -> stored values of a weight    x.T @ g at the live cells
    spmm_epilogue(x, weight, *extras) -> [..., N]                activation(scale * (x @ W) + bias) + residual

The first two are bilinear and closed under transposition, so no kernel needs a derivative of its own; the third one's jvp is
that of the first followed by the epilogue.
"""

from . import derivatives as derivatives  # registers the rules
from .avals import aval_like as aval_like
from .avals import on_one_device as on_one_device
from .avals import vary_alike as vary_alike
from .avals import varying_as as varying_as
from .batches import UNROLLED_BATCH as UNROLLED_BATCH
from .device import PLATFORMS as PLATFORMS
from .device import default_device as default_device
from .epilogue import ACTIVATIONS as ACTIVATIONS
from .epilogue import apply_epilogue as apply_epilogue
from .local import spmm_here as spmm_here
from .primitives import sddmm as sddmm
from .primitives import sddmm_p as sddmm_p
from .primitives import spmm as spmm
from .primitives import spmm_epilogue as spmm_epilogue
from .primitives import spmm_epilogue_p as spmm_epilogue_p
from .primitives import spmm_p as spmm_p
from .problems import problem_of as problem_of
from .product import Product as Product
