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
// that wakes late, finds its pieces done and goes on to where the others are. It is waited for only within a piece.
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
        Member(Team& team, int me, uint32_t call) : me(me), team_(team), call_(call), phase_(team.begun_) {}

        // The next phase: each of its pieces on whoever is free. Returns when all are done; false if the whole call is
        // over, and with it all that the work refers to: then it must return at once.
        template <typename Work>
        [[nodiscard]] bool share(const Work& work) {
            const int pieces = team_.size_;
            if (pieces == 1) return work(Piece{0, 1}), true;
            for (int piece; (piece = team_.claim(phase_)) >= 0;) {
                work(Piece{piece, pieces});
                team_.finish(phase_);
            }
            // Who has nothing to do is not inside, so that the caller need not wait for who has no core.
            if (me) team_.leave();
            // What another thread still does is done soon, unless it has lost its core: then it must be let on.
            for (int turns = 0; team_.phase() == phase_; ++turns) turns < 4096 ? pause() : std::this_thread::yield();
            ++phase_;
            return !me || team_.enter(call_);
        }

        const int me;

      private:
        Team& team_;
        const uint32_t call_;
        uint64_t phase_;
    };

    // work(member) on up to `threads` threads, each of which goes through the same phases; returns when all are over.
    // The work is true when it comes to its end, and false as soon as a phase is.
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
        const uint32_t call = (call_.load() & ~uint32_t(MOST)) + (MOST + 1);
        Member caller(*this, 0, call + uint32_t(size_));
        if (size_ == 1) return void(work(caller));
        const std::function<bool(Member&)> shared = std::cref(work);
        work_ = &shared;
        call_.store(call + uint32_t(size_));
        call_.notify_all();
        work(caller);
        call_.store(call);  // nobody begins any more, and who is under way finds every phase over
        for (int turns = 0; inside_.load(); ++turns) turns < 4096 ? pause() : std::this_thread::yield();
    }

    // A call of one phase.
    template <typename Work>
    void share(int threads, const Work& work) {
        run(threads, [&](Member& member) { return member.share(work); });
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
            if (!enter(call)) continue;
            Member member(*this, me, call);
            if ((*work_)(member)) leave();
        }
    }

    // Takes a thread into a call, which does not end while somebody is inside; false if it has ended.
    bool enter(uint32_t call) {
        inside_.fetch_add(1);
        if (call_.load() == call) return true;
        inside_.fetch_sub(1);
        return false;
    }

    void leave() { inside_.fetch_sub(1); }

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
    const std::function<bool(Member&)>* work_ = nullptr;
    std::atomic<uint32_t> call_{0};  // a counter, and in its low byte how many threads the call is for; none: it is over
    alignas(64) std::atomic<int> inside_{0};  // threads that may look at the call's work, beside the caller
    alignas(64) std::atomic<uint64_t> ticket_{0};  // phases that are over, and in its low byte the next one's next piece
    alignas(64) std::atomic<int> done_{0};
};

}  // namespace thermoscope
