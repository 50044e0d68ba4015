// Threads that do a call's work together, phase by phase, and sleep between calls.
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

// One of the pieces of a phase, which is one thread's at a time.
struct Piece {
    int index, of;

    // The part of `count` things that falls to this piece.
    template <typename Count>
    Count first(Count count) const {
        return Count(count * int64_t(index) / of);
    }
    template <typename Count>
    Count last(Count count) const {
        return Count(count * int64_t(index + 1) / of);
    }
};

// The process's threads for calls; the calling thread is one of them. One call at a time, others wait their turn.
//
// A phase is over when its pieces are done, whoever did them: a thread that another process keeps from its core, or
// that wakes late, finds its pieces done and goes on to where the others are, and nobody has waited for it.
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

    // A thread in a call.
    class Member {
      public:
        Member(Team& team, int me) : me(me), team_(team), phase_(team.begun_) {}

        // The next phase: each of its pieces on whoever is free. Returns when all are done.
        template <typename Work>
        void share(const Work& work) {
            const int pieces = team_.size_;
            if (pieces == 1) return work(Piece{0, 1});
            for (int piece; (piece = team_.claim(phase_)) >= 0;) {
                work(Piece{piece, pieces});
                team_.finish(phase_);
            }
            // What another thread still does is done soon, unless it has lost its core: then it must be let on.
            for (int turns = 0; team_.phase() == phase_; ++turns) turns < 4096 ? pause() : std::this_thread::yield();
            ++phase_;
        }

        const int me;

      private:
        Team& team_;
        uint64_t phase_;
    };

    // work(member) on up to `threads` threads, each of which goes through the same phases; returns when all are over.
    template <typename Work>
    void run(int threads, const Work& work) {
        std::lock_guard<std::mutex> turn(mutex_);
        size_ = threads < 1 ? 1 : threads > MOST ? MOST : threads;
        try {
            for (; started_ < size_; ++started_) std::thread(&Team::serve, this, started_, call_.load()).detach();
        } catch (const std::system_error&) {  // no more threads to be had: those that are there do
            size_ = started_;
        }
        begun_ = phase();
        Member caller(*this, 0);
        if (size_ == 1) return work(caller);
        const std::function<void(Member&)> shared = std::cref(work);
        work_ = &shared;
        const uint32_t call = (call_.load() & ~uint32_t(MOST)) + (MOST + 1);
        call_.store(call + uint32_t(size_));
        call_.notify_all();
        work(caller);
        call_.store(call);  // nobody begins any more, and who is under way finds every phase over
        for (int turns = 0; inside_.load(); ++turns) turns < 4096 ? pause() : std::this_thread::yield();
    }

    // A call of one phase.
    template <typename Work>
    void share(int threads, const Work& work) {
        run(threads, [&](Member& member) { member.share(work); });
    }

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
            inside_.fetch_add(1);
            if (call_.load() == call) {  // otherwise the call has ended meanwhile
                Member member(*this, me);
                (*work_)(member);
            }
            inside_.fetch_sub(1);
        }
    }

    uint64_t phase() const { return ticket_.load() / (MOST + 1); }

    // A piece of the phase that nobody has, -1 for none.
    int claim(uint64_t phase) {
        uint64_t ticket = ticket_.load();
        while (ticket / (MOST + 1) == phase && int(ticket & MOST) < size_)
            if (ticket_.compare_exchange_weak(ticket, ticket + 1)) return int(ticket & MOST);
        return -1;
    }

    void finish(uint64_t phase) {
        if (done_.fetch_add(1) + 1 < size_) return;
        done_.store(0);
        ticket_.store((phase + 1) * (MOST + 1));
    }

    std::mutex mutex_;
    int started_ = 1, size_ = 1;
    uint64_t begun_ = 0;  // the phase that the call began with
    const std::function<void(Member&)>* work_ = nullptr;
    std::atomic<uint32_t> call_{0};  // a counter, and in its low byte how many threads the call is for; none: it is over
    std::atomic<int> inside_{0};  // threads that may look at the call's work, beside the caller
    alignas(64) std::atomic<uint64_t> ticket_{0};  // phases that are over, and in its low byte the next one's next piece
    alignas(64) std::atomic<int> done_{0};
};

}  // namespace thermoscope
