// Threads and scratch memory of one call.
//
// Threads are started for the call and joined at its end, and only where there is enough to do. Not OpenMP: the wheels
// of torch, numpy and scikit-learn each carry a libgomp of their own, and a second runtime in the process would keep a
// second team of spinning threads beside torch's. Nothing of ours outlives the call, so a fork later on (data loaders)
// is safe too.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <thread>
#include <vector>

namespace strop {

// A thread's scratch memory: grows, is kept for the thread's next call, and starts at a cache line.
class Scratch {
  public:
    ~Scratch() { std::free(memory_); }
    Scratch() = default;
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    float* take(int64_t floats) {
        if (floats > size_) {
            std::free(memory_);
            size_ = 0;
            memory_ = static_cast<float*>(std::aligned_alloc(64, (floats * 4 + 63) / 64 * 64));
            if (memory_ == nullptr) throw std::bad_alloc();
            size_ = floats;
        }
        return memory_;
    }

  private:
    float* memory_ = nullptr;
    int64_t size_ = 0;
};

inline Scratch& scratch() {
    thread_local Scratch own;
    return own;
}

// How many of the threads are worth starting: another one for every so many operations (some tenths of a millisecond).
inline int worthwhile(int threads, int64_t operations, int64_t each = 40'000'000) {
    return static_cast<int>(std::min<int64_t>(threads, 1 + operations / each));
}

// Hand out the tasks 0 to tasks - 1, in order, to the threads as they become free. The caller's thread takes part, so
// that fewer threads than wanted, or none, only make it slower. Returns 0, or 1 where memory ran out.
template <class Work>
int share_out(int64_t tasks, int threads, Work&& work) {
    std::atomic<int64_t> next{0};
    std::atomic<int> failed{0};
    auto run = [&] {
        try {
            for (int64_t task; (task = next.fetch_add(1)) < tasks;) work(task);
        } catch (const std::bad_alloc&) {
            failed = 1;
        }
    };
    std::vector<std::thread> others;
    try {
        for (int64_t i = 1; i < threads && i < tasks; ++i) others.emplace_back(run);
    } catch (const std::exception&) {
        // The system gives no more threads.
    }
    run();
    for (std::thread& other : others) other.join();
    return failed;
}

}  // namespace strop
