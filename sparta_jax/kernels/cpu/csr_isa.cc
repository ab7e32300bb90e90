// The kernels of weights stored by elements for one instruction set: compiled once for each, with -DISA=<name> and its flags.
#include "csr_mlp.h"
#include "csr_sddmm.h"

namespace sparta::ISA {

template <class S>
constexpr CsrIsa kCsr = {sizeof(Compute<S>),   CsrOf<S>::width,  CsrOf<S>::scratch,     CsrOf<S>::pack,                CsrOf<S>::spmm,
                         CsrMlpOf<S>::width,   CsrMlpOf<S>::run, CsrSddmmOf<S>::width,  CsrSddmmOf<S>::pack_columns, CsrSddmmOf<S>::sddmm};

const CsrIsa csr[4] = {kCsr<float>, kCsr<BFloat16>, kCsr<Float16>, kCsr<double>};

}  // namespace sparta::ISA
