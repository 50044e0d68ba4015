#include "distribution.h"

#include <algorithm>
#include <vector>

#include "doubles.h"
#include "team.h"

namespace thermoscope {

namespace {

constexpr int CHUNK = 1024;  // tokens that are summed together, whatever the number of threads
constexpr int MOST = 32;     // best tokens at most

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

struct Drawn {
    double value;
    int64_t token;
};

// The best of z / T + g among the logits [first, last); `ids` are their tokens, or null where those are their places.
template <typename Logit>
Drawn race(const Logit* logits, const int64_t* ids, int first, int last, double greatest, double temperature,
           uint64_t key) {
    Drawn winner{-std::numeric_limits<double>::infinity(), -1};
    // A token is the best so far if its w = 1 − u < 1 − exp(−exp(z/T − best)) ≤ exp(z/T − best). The bound is a rough
    // one, so a little more than needed is let through; who passes is computed in full.
    double reach = std::numeric_limits<double>::infinity();
    const auto enter = [&](int at) {
        const int64_t token = ids ? ids[at] : at;
        const double w = std::min(tail(uint64_t(token), key), 1 - 0x1p-53);
        const double value = (double(logits[at]) - greatest) / temperature - std::log(-std::log1p(-w));
        if (value > winner.value) winner = {value, token}, reach = 1.001 * std::exp(-value);
    };
    for (; first + WIDE <= last; first += WIDE) {
        const Doubles x = (load_doubles(logits + first) - spread(greatest)) / spread(temperature);
        const Doubles w = tails(ids ? load_tokens(ids + first) : tokens_from(first), key);
        // 1e-300 for what underflowed
        unsigned passing = not_above(w, (exp_doubles<5>(x) + spread(1e-300)) * spread(reach));
        for (int i = 0; passing; ++i, passing >>= 1)
            if (passing & 1) enter(first + i);
    }
    for (; first < last; ++first) enter(first);
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
    const int items = rows * chunks;
    // In pieces side by side, as the output projection was: half of a row is still in a core's own cache.
    const auto find_greatest = [&](Piece piece) {
        for (int item = piece.first(items); item < piece.last(items); ++item) {
            const float* row = logits + size_t(item / chunks) * vocab;
            const int first = item % chunks * CHUNK;
            tops[size_t(item / chunks) * (chunks + 2) + item % chunks] =
                greatest_of(row + first, std::min(vocab - first, CHUNK));
        }
    };
    const auto find_least = [&](Piece piece) {
        for (int r = piece.index; r < rows; r += piece.of) {
            float* top = tops + size_t(r) * (chunks + 2);
            std::vector<float> sorted(top, top + chunks);
            for (float& each : sorted)  // what is no number cannot be sorted; the entropy tells of it
                if (each != each) each = std::numeric_limits<float>::infinity();
            std::sort(sorted.begin(), sorted.end(), std::greater<float>());
            top[chunks] = sorted[0];
            // Each chunk's greatest is a logit, so the best are no less than the best of those.
            top[chunks + 1] = chunks < best ? -std::numeric_limits<float>::infinity() : sorted[best - 1];
        }
    };
    const auto look_through = [&](Piece piece) {
        for (int item = piece.first(items); item < piece.last(items); ++item) {
            const int r = item / chunks, first = item % chunks * CHUNK;
            const float* top = tops + size_t(r) * (chunks + 2);
            const double temperature = temperatures[r] > 0 ? temperatures[r] : 1;
            look(logits + size_t(r) * vocab, first, std::min(vocab, first + CHUNK), top[chunks], temperature,
                 top[chunks + 1], best, all[item]);
        }
    };
    const auto sum_up = [&](Piece piece) {
        for (int r = piece.index; r < rows; r += piece.of) {
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
    };
    Team::only().run(threads, [&](Team::Member& member) {
        return member.share(find_greatest) && member.share(find_least) && member.share(look_through) &&
               member.share(sum_up);
    });
}

template <typename Logit>
int64_t draw(const Logit* logits, const int64_t* ids, int count, double greatest, double temperature, uint64_t key,
             int threads) {
    const int chunks = (count + CHUNK - 1) / CHUNK;
    Drawn winners[Team::MOST];
    int racing = 1;
    Team::only().share(threads, [&](Piece piece) {
        if (piece.index == 0) racing = piece.of;
        const int first = piece.first(chunks) * CHUNK, last = std::min(count, piece.last(chunks) * CHUNK);
        winners[piece.index] = race(logits, ids, first, last, greatest, temperature, key);
    });
    Drawn winner = winners[0];
    for (int i = 1; i < racing; ++i)
        if (winners[i].value > winner.value) winner = winners[i];
    return winner.token;
}

template int64_t draw(const float*, const int64_t*, int, double, double, uint64_t, int);
template int64_t draw(const double*, const int64_t*, int, double, double, uint64_t, int);

}  // namespace thermoscope
