// Threads that run one function together and meet at barriers; asleep between calls.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <system_error>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace thermoscope {

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// The process's threads for calls; the calling thread is one of them. One call at a time, others wait their turn.
class Team {
  public:
    static constexpr int MOST = 255;

    // Never destroyed: its threads sleep until the process ends, and another thread may still be in a call then.
    // A forked child, which has none of them, begins anew.
    static Team& only() {
        static const bool begun = [] {
            held() = new Team;
#if defined(__unix__) || defined(__APPLE__)
            pthread_atfork(nullptr, nullptr, [] { held() = new Team; });
#endif
            return true;
        }();
        (void)begun;
        return *held();
    }

    // work(me) on `threads` threads; returns when all have ended.
    void run(int threads, const std::function<void(int)>& work) {
        std::lock_guard<std::mutex> turn(mutex_);
        size_ = threads < 1 ? 1 : threads > MOST ? MOST : threads;
        try {
            for (; started_ < size_; ++started_) std::thread(&Team::serve, this, started_, call_.load()).detach();
        } catch (const std::system_error&) {  // no more threads to be had: those that are there do
            size_ = started_;
        }
        work_ = &work;
        if (size_ > 1) {
            call_.store((call_.load() & ~uint32_t(MOST)) + (MOST + 1) + uint32_t(size_));
            call_.notify_all();
        }
        work(0);
        meet();
    }

    // Waits until every thread of the call is here.
    void meet() {
        const int size = size_;  // read before arriving: once all have arrived, the next call may set another one
        if (size == 1) return;
        const uint32_t round = round_.load();
        if (arrived_.fetch_add(1) + 1 == size) {
            arrived_.store(0);
            round_.store(round + 1);
            return;
        }
        // A thread that has lost its core to another one must be let on.
        for (int turns = 0; round_.load() == round; ++turns) turns < 4096 ? pause() : std::this_thread::yield();
    }

    int size() const { return size_; }

  private:
    static Team*& held() {
        static Team* team = nullptr;
        return team;
    }

    void serve(int me, uint32_t call) {
        while (true) {
            // While somebody is decoding, the next call comes soon; then the system's own wait.
            for (int turns = 0; turns < 2048 && call_.load() == call; ++turns) pause();
            call_.wait(call);
            call = call_.load();
            if (me >= int(call & MOST)) continue;
            (*work_)(me);
            meet();
        }
    }

    std::mutex mutex_;
    int started_ = 1, size_ = 1;
    const std::function<void(int)>* work_ = nullptr;
    std::atomic<uint32_t> call_{0};  // a counter, and in its low byte how many threads the call is for
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<uint32_t> round_{0};
};

}  // namespace thermoscope
