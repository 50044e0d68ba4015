#include "truncation.h"

#include <algorithm>
#include <vector>

#include "doubles.h"
#include "team.h"

namespace thermoscope {

namespace {

constexpr int CHUNK = 1024;   // tokens that are summed together, whatever the number of threads
constexpr int SLICES = 1024;  // of the distance; only the one that the goal falls into is sorted
constexpr double LEAST = -800;  // exp of it is 0, and it is a number

// Tokens near enough to be looked at, in rising order.
struct Near {
    std::vector<int64_t> ids;
    std::vector<double> distances, weights;
    int count;

    double find(const double* logits, int all, double greatest, double temperature, double middle, double reach) {
        ids.resize(all + WIDE), distances.resize(all + WIDE), weights.resize(all + WIDE);
        int64_t* found = ids.data();
        double* away = distances.data();
        int some = 0;
        const auto distance = [=](Doubles z) {
            return middle == 0 ? spread(greatest) - z : size((z - spread(greatest)) / spread(temperature) - spread(middle));
        };
        const auto keep = [=, &some](Doubles far, Tokens tokens) {
            const unsigned lanes = at_most(far, spread(reach));
            if (!lanes) return;
            store_some(away + some, far, lanes);
            store_some(found + some, tokens, lanes);
            some += __builtin_popcount(lanes);
        };
        int i = 0;
        for (; i + WIDE <= all; i += WIDE) keep(distance(load_doubles(logits + i)), tokens_from(i));
        if (i < all) {  // the last ones, with lanes that are near to nothing
            double rest[WIDE];
            std::fill_n(rest, WIDE, std::numeric_limits<double>::quiet_NaN());
            std::copy_n(logits + i, all - i, rest);
            keep(distance(load_doubles(rest)), tokens_from(i));
        }
        count = some;
        return weigh(logits, greatest, temperature, middle);
    }

    double weigh(const double* logits, double greatest, double temperature, double middle) {
        const int some = count;
        const int64_t* found = ids.data();
        double *away = distances.data(), *weight = weights.data();
        if (middle != 0)  // a distance has lost its sign
            for (int i = 0; i < some; ++i) weight[i] = (logits[found[i]] - greatest) / temperature;
        std::fill_n(away + some, WIDE, std::numeric_limits<double>::infinity());
        std::fill_n(weight + some, WIDE, -std::numeric_limits<double>::infinity());
        Doubles sum = spread(0.0);
        for (int i = 0; i < some; i += WIDE) {
            const Doubles x = middle == 0 ? spread(0.0) - load_doubles(away + i) / spread(temperature)
                                          : load_doubles(weight + i);
            const Doubles w = exp_doubles(x);
            store_doubles(weight + i, w);
            sum += w;
        }
        return total(sum);
    }
};

}  // namespace

Weights weigh(const double* logits, int count, double greatest, double temperature, int threads) {
    static thread_local std::vector<Weights> parts;
    const int chunks = (count + CHUNK - 1) / CHUNK;
    parts.resize(chunks);
    Weights* each = parts.data();
    Team::only().share(threads, [&](Piece piece) {
        for (int c = piece.first(chunks); c < piece.last(chunks); ++c) {
            Doubles mass = spread(0.0), moment = spread(0.0);
            double alone[2] = {};
            int i = c * CHUNK;
            const int end = std::min(count, i + CHUNK);
            for (; i + WIDE <= end; i += WIDE) {
                const Doubles x = (load_doubles(logits + i) - spread(greatest)) / spread(temperature);
                const Doubles w = exp_doubles(x);
                mass += w;
                moment += w * at_least(x, LEAST);
            }
            for (; i < end; ++i) {
                const double x = std::max((logits[i] - greatest) / temperature, LEAST), w = std::exp(x);
                alone[0] += w;
                alone[1] += w * x;
            }
            each[c] = {total(mass) + alone[0], total(moment) + alone[1]};
        }
    });
    Weights sum{};
    for (int c = 0; c < chunks; ++c) sum.mass += each[c].mass, sum.moment += each[c].moment;
    return sum;
}

int fewest(const double* logits, int count, double greatest, double temperature, double middle, double goal,
           bool beyond, int64_t* members) {
    static thread_local Near own;
    static thread_local std::vector<int> places, orders;
    Near& near = own;
    goal = std::max(goal, std::numeric_limits<double>::denorm_min());  // one token is kept for any goal
    const auto reached = [=](double sum) { return beyond ? sum > goal : sum >= goal; };
    int possible = 0;
    for (int i = 0; i < count; ++i) possible += logits[i] > -std::numeric_limits<double>::infinity();
    double reach = middle == 0 ? 2 * std::clamp(temperature, 1e-3, 1e3) : 1;
    // What is no number's distance away has no weight, and a slice of ∞ no place.
    while (!reached(near.find(logits, count, greatest, temperature, middle, reach)) && near.count < possible &&
           reach <= std::numeric_limits<double>::max() / 2)
        reach *= 2;
    const double *distances = near.distances.data(), *weights = near.weights.data();
    const int64_t* ids = near.ids.data();
    const int found = near.count;  // thread_local is looked up at every turn of a loop

    places.resize(found), orders.resize(found);
    int *slices = places.data(), *order = orders.data();
    double sums[SLICES + 1] = {};
    for (int i = 0; i < found; ++i) slices[i] = int(distances[i] * (SLICES / reach));
    for (int i = 0; i < found; ++i) sums[slices[i]] += weights[i];
    double sum = 0;
    int crossed = 0;
    while (crossed <= SLICES && !reached(sum + sums[crossed])) sum += sums[crossed++];

    // Whether a token is in a slice is a toss that no branch predicts, so all are written, and some over.
    int some = 0;
    for (int i = 0; i < found; ++i) order[some] = i, some += slices[i] == crossed;
    std::stable_sort(order, order + some, [=](int a, int b) { return distances[a] < distances[b]; });
    int edge = 0;
    while (edge < some && !reached(sum += weights[order[edge]])) ++edge;
    const bool all = edge == some;
    const int last = all ? found : order[edge];
    const double farthest = all ? std::numeric_limits<double>::infinity() : distances[last];
    int kept = 0;
    for (int i = 0; i < found; ++i) {
        members[kept] = ids[i];
        kept += int(distances[i] < farthest) | (int(distances[i] == farthest) & int(i <= last));
    }
    return kept;
}

}  // namespace thermoscope
