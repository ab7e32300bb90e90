// What this machine can run, and the memory of its threads: for the handlers, which are compiled for no instruction set of their own.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <string>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace sparta {

// Asked once: `cpuid` takes microseconds on a virtual machine, whose hypervisor answers it.
inline bool has_avx2() {
#if defined(__x86_64__)
  static const bool has = [] {
    unsigned a, b, c, d;  // some compilers' __builtin_cpu_supports does not know F16C
    const bool has_f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c;
  }();
  return has;
#else
  return false;
#endif
}

inline bool has_avx512() {
#if defined(__x86_64__)
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
#else
  return false;
#endif
}

// The same functions for every instruction set; null where they were not compiled.
template <class T>
struct Sets {
  const T *baseline, *avx2, *avx512;

  // The named one, or null where this machine lacks it; the best one for an empty name.
  const T* choose(const std::string& name) const {
    if ((name.empty() || name == "avx512") && avx512 && has_avx512()) return avx512;
    if ((name.empty() || name == "avx2") && avx2 && has_avx2()) return avx2;
    return name.empty() || name == "baseline" ? baseline : nullptr;
  }
};

// One buffer per thread, kept between calls, so that it stays in that core's cache and is never faulted in anew.
inline float* thread_scratch(int64_t floats) {
  struct Buffer {
    float* data = nullptr;
    int64_t size = 0;
    ~Buffer() { std::free(data); }
  };
  static thread_local Buffer buffer;
  if (floats <= buffer.size) return buffer.data;
  std::free(buffer.data);
  void* data = nullptr;
  buffer.data = posix_memalign(&data, 64, floats * sizeof(float)) ? nullptr : static_cast<float*>(data);
  buffer.size = buffer.data ? floats : 0;
  return buffer.data;
}

}  // namespace sparta
