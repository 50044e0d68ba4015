// The kernel without Python, on random numbers that are the same everywhere: prints a checksum for every case, so
// that two builds can be held against each other. With the argument `time`, nanoseconds of a product instead.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <thread>
#include <vector>

#include "blocks.h"
#include "distribution.h"
#include "doubles.h"
#include "step.h"
#include "team.h"
#include "truncation.h"

using namespace thermoscope;

namespace {

// splitmix64 (Steele et al. 2014); integers and products with powers of two only, which are exact.
struct Random {
    uint64_t state;
    uint64_t next() {
        uint64_t z = state += 0x9e3779b97f4a7c15;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        return z ^ z >> 31;
    }
    float number() { return float(int32_t(next() >> 40) - (1 << 23)) * 0x1p-23f; }  // [-1, 1)
};

std::vector<float> numbers(Random& random, size_t count, float size = 1, float middle = 0) {
    std::vector<float> out(count);
    for (float& each : out) each = middle + size * random.number();
    return out;
}

// FNV-1a of the bits; every NaN counts as the same one, and both zeros as different.
template <typename Number>
uint64_t checksum(const std::vector<Number>& of) {
    uint64_t hash = 0xcbf29ce484222325;
    for (Number each : of) {
        uint32_t bits = 0;
        std::memcpy(&bits, &each, sizeof each);
        if (each != each) bits = 0x7fc00000;
        for (int i = 0; i < 4; ++i) hash = (hash ^ (bits >> 8 * i & 255)) * 0x100000001b3;
    }
    return hash;
}

int failures = 0;

template <typename Number>
void equal(const char* what, const std::vector<Number>& one, const std::vector<Number>& other) {
    if (checksum(one) == checksum(other)) return;
    std::printf("%s: not the same bits\n", what);
    ++failures;
}

// A matrix with what it points to.
struct Packed {
    std::vector<uint8_t> panels;
    std::vector<float> bias;
    Matrix matrix;

    Packed(Random& random, int out, int in, int bits, bool wide, int zero, bool with_bias, float size) {
        matrix = {nullptr, nullptr, out, in, bits, wide, zero, with_bias ? 2 : 1};
        const size_t blocks = size_t(out) * (in / BLOCK);
        std::vector<uint8_t> codes(size_t(out) * in);
        for (uint8_t& each : codes) each = uint8_t(random.next() >> 32 & ((1 << bits) - 1));
        const float middle = float(1 << (bits - 1));
        std::vector<uint8_t> scales = stored(numbers(random, blocks, size / middle / 2, size / middle), wide);
        std::vector<uint8_t> minima = stored(numbers(random, blocks, size / 4, -size), wide);
        panels.resize(panels_of(matrix) * panel_bytes(matrix));
        pack(matrix, codes.data(), scales.data(), minima.data(), panels.data());
        if (with_bias) bias = numbers(random, out);
        matrix.panels = panels.data();
        matrix.bias = with_bias ? bias.data() : nullptr;
    }

    static std::vector<uint8_t> stored(std::vector<float> from, bool wide) {
        std::vector<uint8_t> out(from.size() * (wide ? 4 : 2));
        if (wide) {
            std::memcpy(out.data(), from.data(), out.size());
            return out;
        }
        from.resize((from.size() + LANES - 1) / LANES * LANES);
        std::vector<uint8_t> halves(from.size() * 2);
        for (size_t i = 0; i < from.size(); i += LANES) to_halves(halves.data() + 2 * i, load(from.data() + i));
        out.assign(halves.begin(), halves.begin() + long(out.size()));
        return out;
    }
};

std::vector<float> times(const Matrix& w, const std::vector<float>& x, int threads) {
    const int rows = int(x.size()) / w.in, groups = w.in / BLOCK;
    std::vector<int8_t> codes(x.size() * w.terms);
    std::vector<float> scales(size_t(rows) * w.terms * groups), sums(scales.size()), y(size_t(rows) * w.out);
    const Quantised to{codes.data(), scales.data(), sums.data()};
    for (int r = 0; r < rows; ++r) quantise(x.data() + size_t(r) * w.in, w.in, w.terms, to, r, 0, groups);
    Team::only().share(threads, [&](Piece piece) {
        const int panels = panels_of(w);
        multiply(w, to, rows, y.data(), piece.first(panels), piece.last(panels));
    });
    return y;
}

// Every piece of every phase is done once, and after those of the phase before it, however many threads of how many
// callers there are for the cores: most calls are over before all of their threads have a core.
void crowd() {
    const auto call = [](uint64_t seed) {
        Random random{seed};
        for (int round = 0; round < 400; ++round) {
            const int threads = 1 + int(random.next() % 7), phases = 1 + int(random.next() % 9);
            std::vector<int> done(size_t(phases) * threads);
            std::atomic<int> early{0};
            Team::only().run(threads, [&](Team::Member& member) {
                for (int phase = 0; phase < phases; ++phase) {
                    const auto piece_of = [&](Piece piece) {
                        if (piece.of > threads) ++early;
                        for (int i = 0; phase && i < piece.of; ++i) early += done[size_t(phase - 1) * threads + i] != 1;
                        ++done[size_t(phase) * threads + piece.index];
                        if (piece.index == phase % threads) std::this_thread::yield();
                    };
                    if (!member.share(piece_of)) return false;
                }
                return true;
            });
            bool all = early == 0;
            for (int each : done) all &= each == 1;
            if (!all) {
                std::printf("crowd: a piece was not done once, or too early\n");
                ++failures;
                return;
            }
        }
    };
    std::thread one(call, 1), other(call, 2);
    call(3);
    one.join();
    other.join();
}

void products() {
    for (int bits : {4, 8})
        for (bool wide : {false, true})
            for (int zero : {-1, 1 << (bits - 1)})
                for (bool bias : {false, true}) {
                    Random random{uint64_t(1000 * bits + 100 * wide + 10 * (zero + 1) + bias)};
                    const int out = bias ? 40 : 17, in = bias ? 32 : 96, rows = 13;
                    const Packed w(random, out, in, bits, wide, zero, bias, 0.25f);
                    std::vector<float> x = numbers(random, size_t(rows) * in, 3), weight(size_t(out) * in);
                    x[0] = 1e30f;                        // one huge number
                    x[size_t(in)] = 3e38f;               // one that overflows
                    for (int i = 0; i < in; ++i) {
                        x[size_t(2) * in + i] *= 1e-39f;   // denormals
                        x[size_t(3) * in + i] *= 3e-36f;   // at the edge of what has a scale
                        x[size_t(4) * in + i] = 0;
                    }
                    x[size_t(5) * in + 7] = INFINITY;
                    x[size_t(6) * in + 31] = NAN;
                    unpack(w.matrix, weight.data());
                    const std::vector<float> y = times(w.matrix, x, 1);
                    equal("threads", y, times(w.matrix, x, 3));
                    for (int r = 0; r < rows; ++r) {
                        const std::vector<float> row(x.begin() + long(r) * in, x.begin() + long(r + 1) * in);
                        const std::vector<float> part(y.begin() + long(r) * out, y.begin() + long(r + 1) * out);
                        equal("row", part, times(w.matrix, row, 2));
                    }
                    std::printf("product %d bits, wide %d, zero %d, bias %d: %016llx %016llx\n", bits, wide, zero, bias,
                                (unsigned long long)checksum(weight), (unsigned long long)checksum(y));
                }
}

void functions() {
    std::vector<float> x, y;
    for (int i = -40000; i <= 40000; i += 7) x.push_back(float(i) * 0.005f);
    for (float size : {1e3f, 1e5f, 1e7f, 3e9f, 1e14f, 1e30f, 3e38f, float(INFINITY), float(NAN)})
        for (float sign : {1.0f, -1.0f}) x.push_back(sign * size);
    x.resize((x.size() + LANES - 1) / LANES * LANES);
    y.resize(x.size());
    for (size_t i = 0; i < x.size(); i += LANES) store(y.data() + i, exp(load(x.data() + i)));
    for (size_t i = 0; i < x.size(); ++i) {
        const double exact = std::exp(double(x[i])), last = std::fmax(std::ldexp(exact, -23), 0x1p-149);
        const bool right = std::isnan(x[i]) ? std::isnan(y[i])
                           : exact > 3.4e38 ? std::isinf(y[i]) && y[i] > 0
                                            : std::fabs(double(y[i]) - exact) <= 2 * last;
        if (!right) {
            std::printf("exp(%.9g): got %.9g, expected %.9g\n", double(x[i]), double(y[i]), exact);
            ++failures;
        }
    }
    std::printf("exp: %016llx\n", (unsigned long long)checksum(y));

    // All halves there and back, and every float between two of them in steps.
    std::vector<uint8_t> bytes(2 * LANES);
    std::vector<float> wide;
    std::vector<uint16_t> narrow;
    for (int half = 0; half < 0x10000; half += LANES) {
        uint16_t halves[LANES];
        for (int i = 0; i < LANES; ++i) halves[i] = uint16_t(half + i);
        const Floats there = from_halves(reinterpret_cast<const uint8_t*>(halves));
        float floats[LANES];
        store(floats, there);
        wide.insert(wide.end(), floats, floats + LANES);
        if ((half & 0x7c00) == 0x7c00) continue;  // infinities, and what is no number
        uint16_t back[LANES];
        to_halves(reinterpret_cast<uint8_t*>(back), there);
        if (std::memcmp(halves, back, sizeof back)) {
            std::printf("halves from %d: not the same there and back\n", half);
            ++failures;
        }
    }
    for (uint64_t bits = 0; bits < 0x7f800000; bits += 0xfff * LANES) {
        float floats[LANES];
        for (int i = 0; i < LANES; ++i) {
            const uint32_t each = uint32_t(bits + 0xfff * uint64_t(i));
            std::memcpy(floats + i, &each, 4);
        }
        uint16_t halves[LANES];
        to_halves(reinterpret_cast<uint8_t*>(halves), load(floats));
        for (int i = 0; i < LANES; ++i) narrow.push_back(floats[i] == floats[i] ? halves[i] : 0);
    }
    std::printf("halves: %016llx %016llx\n", (unsigned long long)checksum(wide), (unsigned long long)checksum(narrow));
}

// A network of two layers, the second with a window.
struct Tiny {
    static constexpr int HIDDEN = 64, HEADS = 4, KV = 2, FFN = 96, CONTEXT = 320, SLOTS = 2, LAYERS = 2, VOCAB = 50;
    int dim;
    std::vector<std::vector<float>> kept;
    std::vector<Packed> matrices;
    std::vector<Layer> layers;
    Network network;

    Tiny(int dim, int bits, bool norms, bool post, bool whole, Activation activation, int window, int rotary)
        : dim(dim) {
        Random random{uint64_t(dim * 1000 + bits * 100 + norms * 8 + post * 4 + whole * 2 + activation)};
        kept.reserve(100);
        matrices.reserve(100);
        const auto norm = [&](bool there, int width) -> const float* {
            if (!there) return nullptr;
            kept.push_back(numbers(random, width, 0.25f, 1));
            return kept.back().data();
        };
        const auto matrix = [&](int out, int in) {
            const bool odd = matrices.size() % 2;
            const int zero = matrices.size() % 3 ? -1 : 1 << (bits - 1);
            matrices.emplace_back(random, out, in, bits, odd, zero, odd, 0.25f);
            return matrices.back().matrix;
        };
        kept.push_back(numbers(random, size_t(CONTEXT) * rotary));
        const float* rotation = kept.back().data();
        for (int i = 0; i < LAYERS; ++i) {
            Layer layer{};
            layer.attention_norm = norm(true, HIDDEN);
            layer.q_norm = norm(norms, whole ? HEADS * dim : dim);
            layer.k_norm = norm(norms, whole ? KV * dim : dim);
            layer.attention_post_norm = norm(post, HIDDEN);
            layer.mlp_norm = norm(true, HIDDEN);
            layer.mlp_post_norm = norm(post, HIDDEN);
            layer.rotation = rotation;
            layer.qkv = matrix((HEADS + 2 * KV) * dim, HIDDEN);
            layer.output = matrix(HIDDEN, HEADS * dim);
            layer.gate_up = matrix(2 * FFN, HIDDEN);
            layer.down = matrix(HIDDEN, FFN);
            layer.window = i ? window : 0;
            layers.push_back(layer);
        }
        network = {layers.data(), HIDDEN, HEADS, KV, dim, FFN, rotary, whole, activation, 1e-5f, 0.25f, nullptr, 1, 1};
    }

    // The first `count` positions of slot 1 in calls of `chunk`, and what the taps saw in the last layer.
    struct Run {
        std::vector<float> x, qkv, attention, mlp;
        std::vector<uint16_t> keys, values;
    };

    // In pieces the stream begins with what the network looks up, the input being its embedding.
    Run run(const std::vector<float>& input, int chunk, int threads) const {
        Run made{input, {}, {}, {}, {}, {}};
        Network looking = network;
        looking.embedding = input.data();
        const int count = int(input.size()) / HIDDEN, width = (HEADS + 2 * KV) * dim;
        made.qkv.resize(size_t(count) * width);
        made.attention = made.mlp = input;
        const int64_t head = int64_t(CONTEXT) * dim, layer = SLOTS * KV * head;
        made.keys.resize(LAYERS * layer);
        made.values.resize(LAYERS * layer);
        const Cache cache{made.keys.data(), made.values.data(), layer, head};
        for (int at = 0; at < count; at += chunk) {
            const int rows = std::min(chunk, count - at);
            std::vector<int32_t> slots(rows, 1), positions(rows);
            for (int r = 0; r < rows; ++r) positions[r] = at + r;
            // In the last layer, some rows must not see a whole section, nor some positions of all others.
            std::vector<uint8_t> hidden(size_t(rows) * (at + rows));
            for (int r = 0; r < rows; ++r)
                for (int p = 0; p < at + r; ++p)
                    hidden[size_t(r) * (at + rows) + p] = (at + r) % 5 == 0 && (p / 32 == 2 || p % 3 == 0);
            const bool looks = rows < count;
            if (looks) std::fill_n(made.x.data() + size_t(at) * HIDDEN, size_t(rows) * HIDDEN, 0.0f);
            const Rows which{rows, slots.data(), positions.data(), nullptr, looks ? positions.data() : nullptr};
            const Rows blinded{rows, slots.data(), positions.data(), hidden.data(), nullptr};
            const Taps none{}, taps{made.qkv.data() + size_t(at) * width, made.attention.data() + size_t(at) * HIDDEN,
                                    made.mlp.data() + size_t(at) * HIDDEN};
            float* x = made.x.data() + size_t(at) * HIDDEN;
            int64_t spent[PARTS] = {};
            forward(looking, which, cache, x, 0, 1, none, threads, spent);
            forward(network, blinded, cache, x, 1, 2, taps, threads, nullptr);
        }
        return made;
    }

    void check(const char* name) const {
        Random random{7};
        const std::vector<float> input = numbers(random, size_t(300) * HIDDEN, 2);
        const Run whole = run(input, 300, 3);
        for (int chunk : {1, 129}) {
            const Run other = run(input, chunk, chunk == 1 ? 3 : 1);
            equal("hidden states", whole.x, other.x);
            equal("q, k and v", whole.qkv, other.qkv);
            equal("attention", whole.attention, other.attention);
            equal("mlp", whole.mlp, other.mlp);
            equal("keys", whole.keys, other.keys);
            equal("values", whole.values, other.values);
        }
        Random head_random{8};
        const Packed head(head_random, VOCAB, HIDDEN, 8, false, 128, false, 0.25f);
        std::vector<float> logits(size_t(300) * VOCAB), last(VOCAB);
        unembed(head.matrix, kept.back().data(), 1e-5f, whole.x.data(), 300, logits.data(), 3);
        unembed(head.matrix, kept.back().data(), 1e-5f, whole.x.data() + size_t(299) * HIDDEN, 1, last.data(), 2);
        equal("logits", std::vector<float>(logits.end() - VOCAB, logits.end()), last);
        for (float each : logits)
            if (!std::isfinite(each)) {
                std::printf("%s: got a logit that is no number\n", name);
                ++failures;
                break;
            }
        std::printf("%s: %016llx %016llx %016llx\n", name, (unsigned long long)checksum(whole.x),
                    (unsigned long long)checksum(whole.keys), (unsigned long long)checksum(logits));
    }
};

void networks() {
    Tiny(16, 4, false, false, false, SILU, 0, 16).check("plain");
    Tiny(16, 4, true, true, false, GELU_TANH, 16, 8).check("norms on heads, after parts, window 16");
    Tiny(32, 8, true, false, true, SILU, 150, 32).check("norms on all heads, window 150");
    Tiny(64, 4, true, true, true, GELU_TANH, 128, 64).check("heads of 64, window 128");
}

void expect(bool right, const char* what, double got, double expected) {
    if (right) return;
    std::printf("%s: got %.17g, expected %.17g\n", what, got, expected);
    ++failures;
}

template <int DEGREE>
void exponentials(double most) {
    double x[WIDE], y[WIDE];
    for (double at = -800; at <= 0; at += 0.0137 * WIDE) {
        for (int i = 0; i < WIDE; ++i) x[i] = at + 0.0137 * i;
        store_doubles(y, exp_doubles<DEGREE>(load_doubles(x)));
        for (int i = 0; i < WIDE; ++i)
            expect(std::fabs(y[i] - std::exp(x[i])) <= most * std::exp(x[i]) + 0x1p-1074, "exp", y[i], std::exp(x[i]));
    }
    std::fill_n(x, WIDE, -INFINITY);
    store_doubles(y, exp_doubles<DEGREE>(load_doubles(x)));
    expect(y[0] == 0, "exp of -inf", y[0], 0);
    std::fill_n(x, WIDE, NAN);
    store_doubles(y, exp_doubles<DEGREE>(load_doubles(x)));
    expect(y[0] != y[0], "exp of NaN", y[0], NAN);
}

// Sums, cuts and draws against plain loops; their last bits differ between builds, so nothing is printed.
void distributions() {
    exponentials<13>(0x1p-50);
    exponentials<5>(1e-5);
    Random random{9};
    constexpr int VOCAB = 3001;
    for (int turn = 0; turn < 40; ++turn) {
        std::vector<float> row = numbers(random, VOCAB, turn % 2 ? 12 : 3);
        if (turn % 4 == 0)
            for (float& each : row) each = std::round(each);  // ties
        if (turn % 5 == 0)
            for (int i = 0; i < VOCAB; i += 3) row[i] = -INFINITY;
        const std::vector<double> z(row.begin(), row.end());
        const double greatest = *std::max_element(z.begin(), z.end()), temperature = turn % 3 ? 0.7 : 2;
        std::vector<double> w(VOCAB), far(VOCAB);
        double mass = 0, moment = 0;
        for (int i = 0; i < VOCAB; ++i) {
            const double x = (z[i] - greatest) / temperature;
            mass += w[i] = std::exp(x);
            if (w[i] > 0) moment += w[i] * x;
        }
        const Weights sums = weigh(z.data(), VOCAB, greatest, temperature, 2);
        expect(std::fabs(sums.mass - mass) < 1e-12 * mass, "mass", sums.mass, mass);
        expect(std::fabs(sums.moment - moment) < 1e-12 * (mass + std::fabs(moment)), "moment", sums.moment, moment);
        for (double middle : {0.0, moment / mass})
            for (double share : {0.0, 0.3, 0.9, 0.9999}) {
                std::vector<int> order(VOCAB);
                for (int i = 0; i < VOCAB; ++i) {
                    order[i] = i;
                    far[i] = middle == 0 ? greatest - z[i] : std::fabs((z[i] - greatest) / temperature - middle);
                }
                std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return far[a] < far[b]; });
                size_t kept = 0;
                for (double sum = 0; kept < VOCAB && sum < share * mass * (1 - 1e-9);) sum += w[order[kept++]];
                order.resize(std::max<size_t>(kept, 1));
                std::sort(order.begin(), order.end());
                std::vector<int64_t> members(VOCAB);
                members.resize(fewest(z.data(), VOCAB, greatest, temperature, middle, share * mass * (1 - 1e-9), false,
                                      members.data()));
                if (!std::equal(order.begin(), order.end(), members.begin(), members.end()))
                    expect(false, "tokens kept", double(members.size()), double(order.size()));
            }
        double best = -INFINITY;
        int64_t winner = -1;
        const uint64_t key = random.next();
        std::vector<int64_t> ids(VOCAB);
        for (int i = 0; i < VOCAB; ++i) {
            ids[i] = i;
            const double g = -std::log(-std::log1p(-std::min(tail(uint64_t(i), key), 1 - 0x1p-53)));
            if ((z[i] - greatest) / temperature + g > best) best = (z[i] - greatest) / temperature + g, winner = i;
        }
        const int64_t of_floats = draw(row.data(), nullptr, VOCAB, greatest, temperature, key, 2);
        const int64_t of_doubles = draw(z.data(), ids.data(), VOCAB, greatest, temperature, key, 3);
        expect(of_floats == winner, "drawn", double(of_floats), double(winner));
        expect(of_doubles == winner, "drawn among some", double(of_doubles), double(winner));
    }
}

void time() {
    for (int bits : {4, 8})
        for (int rows : {1, 8}) {
            Random random{1};
            const Packed w(random, 576, 1536, bits, false, 1 << (bits - 1), false, 0.25f);
            const std::vector<float> x = numbers(random, size_t(rows) * 1536);
            double best = 1e30;
            for (int i = 0; i < 200; ++i) {
                const auto since = std::chrono::steady_clock::now();
                times(w.matrix, x, 1);
                const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - since;
                best = std::fmin(best, took.count());
            }
            std::printf("576x1536, %d bits, %d rows: %.1f us\n", bits, rows, best);
        }
}

}  // namespace

int main(int count, char** arguments) {
    if (count > 1 && !std::strcmp(arguments[1], "time")) {
        time();
        return 0;
    }
    functions();
    crowd();
    products();
    networks();
    distributions();
    return failures ? 1 : 0;
}
