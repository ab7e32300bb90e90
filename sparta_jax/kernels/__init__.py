"""The kernels. Importing this package fills the table."""

from . import dense as dense
from . import dense_attention as dense_attention
from . import dense_mlp as dense_mlp
from . import mosaic_bsr_sddmm as mosaic_bsr_sddmm
from . import mosaic_bsr_spmm as mosaic_bsr_spmm
from . import native_attention as native_attention
from . import native_bsr_sddmm as native_bsr_sddmm
from . import native_bsr_spmm as native_bsr_spmm
from . import native_csr_mlp as native_csr_mlp
from . import native_csr_sddmm as native_csr_sddmm
from . import native_csr_spmm as native_csr_spmm
from . import triton_bsr_sddmm as triton_bsr_sddmm
from . import triton_bsr_spmm as triton_bsr_spmm
from . import xla_bsr_sddmm as xla_bsr_sddmm
from . import xla_bsr_spmm as xla_bsr_spmm
from . import xla_csr_spmm as xla_csr_spmm
from .table import kernels as kernels
