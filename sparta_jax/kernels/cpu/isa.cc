// The kernels for one instruction set: compiled once for each, with -DISA=<name> and its flags.
#include "sddmm.h"
#include "spmm.h"

#define SPARTA_TEXT(x) #x
#define SPARTA_NAME(x) SPARTA_TEXT(x)

namespace sparta::ISA {

const Isa isa = {SPARTA_NAME(ISA), plan_spmm, packed_bytes, pack_x, spmm, plan_sddmm, pack_operand, sddmm};

}  // namespace sparta::ISA
