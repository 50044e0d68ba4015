#include "distribution.h"

#include <algorithm>
#include <vector>

#include "simd.h"
#include "team.h"

namespace thermoscope {

namespace {

constexpr int CHUNK = 1024;  // tokens that are summed together, whatever the number of threads
constexpr int MOST = 32;     // best tokens at most

#if THERMOSCOPE_AVX512

constexpr int WIDE = 8;
using Doubles = __m512d;
inline Doubles load_doubles(const float* from) { return _mm512_cvtps_pd(_mm256_loadu_ps(from)); }
inline Doubles spread(double a) { return _mm512_set1_pd(a); }
inline double total(Doubles a) { return _mm512_reduce_add_pd(a); }

// exp by its Taylor series to the 13th power, on what is left after a power of two: within an ulp.
inline Doubles exp_doubles(Doubles x) {
    x = _mm512_max_pd(spread(-800), x);  // 0 from there on; no number stays none
    const Doubles n = _mm512_roundscale_pd(_mm512_mul_pd(x, spread(1.4426950408889634)), _MM_FROUND_TO_NEAREST_INT);
    Doubles r = _mm512_fnmadd_pd(n, spread(0x1.62e42fefa38p-1), x);
    r = _mm512_fnmadd_pd(n, spread(0x1.ef35793c7673p-45), r);
    double factorial = 6227020800.0;  // 13!
    Doubles sum = spread(1 / factorial);
#pragma GCC unroll 13
    for (int k = 13; k > 0; --k) sum = _mm512_fmadd_pd(sum, r, spread(1 / (factorial /= k)));
    return _mm512_scalef_pd(sum, n);
}

#else

constexpr int WIDE = 1;
using Doubles = double;
inline Doubles load_doubles(const float* from) { return *from; }
inline Doubles spread(double a) { return a; }
inline double total(Doubles a) { return a; }
inline Doubles exp_doubles(Doubles x) { return std::exp(x); }

#endif

struct Part {
    double weight, moment, mass;
    int count;
    int32_t ids[MOST];
};

// Keeps the greatest logits seen, in order; ids come in rising order, so an equal one goes behind.
void insert(const float* logits, int best, int id, int32_t* ids, int& count) {
    if (count == best && !(logits[id] > logits[ids[count - 1]])) return;
    int at = count == best ? count - 1 : count++;
    for (; at > 0 && logits[id] > logits[ids[at - 1]]; --at) ids[at] = ids[at - 1];
    ids[at] = id;
}

float greatest_of(const float* logits, int count) {
    float most = logits[0];
    int i = 0;
    if (count >= LANES) {
        Floats all = load(logits);
        for (; i + LANES <= count; i += LANES) all = max(all, load(logits + i));
        most = greatest(all);
    }
    for (; i < count; ++i) most = logits[i] > most ? logits[i] : most;
    return most;
}

void look(const float* logits, int first, int last, double greatest, double temperature, float floor, int best,
          Part& part) {
    Doubles weight = spread(0.0), moment = spread(0.0), mass = spread(0.0);
    double alone[3] = {};
    int i = first;
    for (; i + WIDE <= last; i += WIDE) {
        const Doubles z = load_doubles(logits + i) - spread(greatest), e = exp_doubles(z);
        weight += e;
        moment += e * z;
        if (temperature != 1) mass += exp_doubles(z / spread(temperature));
    }
    for (; i < last; ++i) {
        const double z = logits[i] - greatest, e = std::exp(z);
        alone[0] += e;
        alone[1] += e * z;
        alone[2] += std::exp(z / temperature);
    }
    part.weight = total(weight) + alone[0];
    part.moment = total(moment) + alone[1];
    part.mass = temperature == 1 ? part.weight : total(mass) + alone[2];
    part.count = 0;
    for (i = first; i < last; i += LANES) {
        if (i + LANES <= last && !reaches(load(logits + i), floor)) continue;
        for (int j = i; j < std::min(i + LANES, last); ++j)
            if (logits[j] >= floor) insert(logits, best, j, part.ids, part.count);
    }
}

inline uint64_t mix(uint64_t x) {  // SplitMix64's output function
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

struct Drawn {
    double value;
    int token;
};

// The best of z / T + g among the tokens [first, last).
Drawn race(const float* logits, int first, int last, double greatest, double temperature, uint64_t key) {
    constexpr uint64_t GOLDEN = 0x9e3779b97f4a7c15;
    const float inverse = float(1 / temperature), top = float(greatest);
    // A token is the best so far if its w = 1 − u < 1 − exp(−exp(z/T − best)) ≤ exp(z/T − best). The bound is in
    // single precision, so a little more than needed is let through; who passes is computed in full.
    Drawn winner{-std::numeric_limits<double>::infinity(), first};
    float reach = std::numeric_limits<float>::infinity();
    for (; first < last; first += LANES) {
        const int count = std::min(LANES, last - first);
        float z[LANES], bounds[LANES];
        double w[LANES];
        std::fill_n(z, LANES, top);
        std::copy_n(logits + first, count, z);
        // 1e-37 for what underflowed
        store(bounds, add(exp(mul(add(load(z), same(-top)), same(inverse))), same(1e-37f)));
        for (int i = 0; i < LANES; ++i)
            w[i] = (double(mix(uint64_t(first + i) * GOLDEN + key) >> 11) + 0.5) * 0x1p-53;
        int passing = 0;
        for (int i = 0; i < LANES; ++i) passing += !(float(w[i]) * 0.999f > bounds[i] * reach);
        for (int i = 0; passing && i < count; ++i) {
            if (float(w[i]) * 0.999f > bounds[i] * reach) continue;
            const double least = std::min(w[i], 1 - 0x1p-53);
            const double value = (double(z[i]) - greatest) / temperature - std::log(-std::log1p(-least));
            if (value > winner.value) {
                winner = {value, first + i};
                reach = float(std::exp(-value));
            }
        }
    }
    return winner;
}

}  // namespace

void summarise(const float* logits, int rows, int vocab, const double* temperatures, int best, Summary* out,
               int32_t* ids, int threads) {
    static thread_local std::vector<float> greatest;
    static thread_local std::vector<Part> parts;
    const int chunks = (vocab + CHUNK - 1) / CHUNK;
    greatest.resize(size_t(rows) * (chunks + 2));
    parts.resize(size_t(rows) * chunks);
    best = std::min({best, vocab, MOST});
    float* tops = greatest.data();  // of each row: of its chunks, of all, and the least that can be among the best
    Part* all = parts.data();
    Team& team = Team::only();
    team.run(threads, [&](int me) {
        // In pieces side by side, as the output projection was: half of a row is still in a core's own cache.
        const int begin = int(int64_t(rows) * chunks * me / team.size());
        const int end = int(int64_t(rows) * chunks * (me + 1) / team.size());
        for (int item = begin; item < end; ++item) {
            const float* row = logits + size_t(item / chunks) * vocab;
            const int first = item % chunks * CHUNK;
            tops[size_t(item / chunks) * (chunks + 2) + item % chunks] =
                greatest_of(row + first, std::min(vocab - first, CHUNK));
        }
        team.meet();
        for (int r = me; r < rows; r += team.size()) {
            float* top = tops + size_t(r) * (chunks + 2);
            std::vector<float> sorted(top, top + chunks);
            for (float& each : sorted)  // what is no number cannot be sorted; the entropy tells of it
                if (each != each) each = std::numeric_limits<float>::infinity();
            std::sort(sorted.begin(), sorted.end(), std::greater<float>());
            top[chunks] = sorted[0];
            // Each chunk's greatest is a logit, so the best are no less than the best of those.
            top[chunks + 1] = chunks < best ? -std::numeric_limits<float>::infinity() : sorted[best - 1];
        }
        team.meet();
        for (int item = begin; item < end; ++item) {
            const int r = item / chunks, first = item % chunks * CHUNK;
            const float* top = tops + size_t(r) * (chunks + 2);
            const double temperature = temperatures[r] > 0 ? temperatures[r] : 1;
            look(logits + size_t(r) * vocab, first, std::min(vocab, first + CHUNK), top[chunks], temperature,
                 top[chunks + 1], best, all[item]);
        }
        team.meet();
        for (int r = me; r < rows; r += team.size()) {
            const float* row = logits + size_t(r) * vocab;
            double weight = 0, moment = 0, mass = 0;
            int32_t* to = ids + size_t(r) * best;
            int count = 0;
            for (int c = 0; c < chunks; ++c) {
                const Part& part = all[size_t(r) * chunks + c];
                weight += part.weight;
                moment += part.moment;
                mass += part.mass;
                for (int i = 0; i < part.count; ++i) insert(row, best, part.ids[i], to, count);
            }
            for (; count < best; ++count) to[count] = -1;
            const double top = tops[size_t(r) * (chunks + 2) + chunks];
            const double entropy = std::log(weight) - moment / weight;
            out[r] = {top, top + std::log(weight), entropy < 0 ? 0 : entropy, mass};
        }
    });
}

int draw(const float* logits, int vocab, double greatest, double temperature, uint64_t key, int threads) {
    const int chunks = (vocab + CHUNK - 1) / CHUNK;
    Drawn winners[Team::MOST];
    Team& team = Team::only();
    team.run(threads, [&](int me) {
        const int first = int(int64_t(chunks) * me / team.size()) * CHUNK;
        const int last = std::min(vocab, int(int64_t(chunks) * (me + 1) / team.size()) * CHUNK);
        winners[me] = race(logits, first, last, greatest, temperature, key);
    });
    Drawn winner = winners[0];
    for (int i = 1; i < team.size(); ++i)
        if (winners[i].value > winner.value) winner = winners[i];
    return winner.token;
}

}  // namespace thermoscope
