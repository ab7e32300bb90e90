// Attention for one instruction set: compiled once for each, with -DISA=<name> and its flags.
#include "attention.h"

#define SPARTA_TEXT(x) #x
#define SPARTA_NAME(x) SPARTA_TEXT(x)

namespace sparta::ISA {

const AttentionIsa attention = {SPARTA_NAME(ISA), attention_scratch, attention_panels, attention_pack, attention_run};

}  // namespace sparta::ISA
