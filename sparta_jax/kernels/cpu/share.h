// Sharing a grid of work items among XLA's own threads, and how much work is worth an item, and a thread.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <utility>

#include "xla/ffi/api/ffi.h"

namespace sparta {

constexpr double kItem = 5e5, kWorker = 1e6;  // operations

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline int64_t workers_for(double operations, xla::ffi::ThreadPool& pool) {
  return std::clamp<int64_t>(int64_t(operations / kWorker), 1, std::max<int64_t>(pool.num_threads(), 1));
}

// Calls work(held, chunk, slice) once for every chunk in [0, chunks) and slice in [0, slices), on the caller and on whatever
// threads of the pool come free, at most `workers` in all. Each worker starts at a chunk of its own, and helps others when that is
// done; `held` is the worker's own number, -1 at first, to remember what its scratch memory holds.
//
// It never waits for a task that has not started (waiting for scheduled tasks deadlocks when every thread of the pool waits), only
// for items that some thread is working on.
inline void share(xla::ffi::ThreadPool& pool, int64_t workers, int64_t chunks, int64_t slices,
                  std::function<void(int64_t& held, int64_t chunk, int64_t slice)> work) {
  struct State {
    int64_t workers, chunks, slices;
    std::function<void(int64_t&, int64_t, int64_t)> work;
    std::unique_ptr<std::atomic<int64_t>[]> next;
    std::atomic<int64_t> started{0}, done{0};

    void drain() {
      const int64_t first = started.fetch_add(1) % workers * chunks / workers;
      int64_t held = -1;
      for (int64_t i = 0; i < chunks; ++i) {
        const int64_t chunk = (first + i) % chunks;
        for (int64_t slice; (slice = next[chunk].fetch_add(1)) < slices;) {
          work(held, chunk, slice);
          done.fetch_add(1, std::memory_order_release);
        }
      }
    }
  };
  const int64_t items = chunks * slices;
  workers = std::clamp<int64_t>(workers, 1, std::max<int64_t>(items, 1));
  if (workers == 1) {
    int64_t held = -1;
    for (int64_t i = 0; i < items; ++i) work(held, i / slices, i % slices);
    return;
  }
  auto state = std::make_shared<State>();  // a task that starts late finds nothing to do, and must find it in live memory
  state->workers = workers;
  state->chunks = chunks;
  state->slices = slices;
  state->work = std::move(work);
  state->next.reset(new std::atomic<int64_t>[chunks]());
  for (int64_t i = 1; i < workers; ++i) pool.Schedule([state] { state->drain(); });
  state->drain();
  while (state->done.load(std::memory_order_acquire) < items) std::this_thread::yield();
}

}  // namespace sparta
