#include "step.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "attention.h"
#include "team.h"

namespace thermoscope {

namespace {

constexpr size_t MOST_PARTIAL = 1 << 24;  // numbers, of partial results of attention

// Memory that grows and stays, for one calling thread; from the start of a cache line, so that no vector lies across
// two of them.
template <typename Number>
class Space {
  public:
    Number* of(size_t size) {
        constexpr size_t LINE = 64;
        if (held_.size() < size + LINE / sizeof(Number)) held_.resize(size + LINE / sizeof(Number));
        const auto address = reinterpret_cast<uintptr_t>(held_.data());
        return reinterpret_cast<Number*>((address + LINE - 1) / LINE * LINE);
    }

  private:
    std::vector<Number> held_;
};

// Room for quantised rows.
class Codes {
  public:
    Quantised of(int rows, int in) {
        const size_t groups = size_t(rows) * (in / BLOCK);
        float* both = numbers_.of(2 * groups);
        return {codes_.of(size_t(rows) * in), both, both + groups};
    }

  private:
    Space<float> numbers_;
    Space<int8_t> codes_;
};

struct Scratch {
    Space<float> fused, partial, mixed, added, wide, thread;
    Codes outer, inner;
};

Scratch& scratch() {
    static thread_local Scratch memory;
    return memory;
}

// Rows of one slot, one after the other, whose attention is one piece of work.
struct Run {
    int first, count;
};

std::vector<Run> runs_of(const Rows& rows, int most) {
    std::vector<Run> runs;
    for (int r = 0; r < rows.count; ++r) {
        const bool joins = r && rows.slots[r] == rows.slots[r - 1] && runs.back().count < most;
        if (joins) ++runs.back().count;
        else runs.push_back({r, 1});
    }
    return runs;
}

// y = x / √(mean x² + eps) · weight; x and y may be the same.
void rms_norm(const float* x, const float* weight, int width, float eps, float* y) {
    Floats squares = same(0);
    for (int i = 0; i < width; i += LANES) squares = fma(load(x + i), load(x + i), squares);
    const Floats inverse = same(1 / std::sqrt(total(squares) / float(width) + eps));
    for (int i = 0; i < width; i += LANES) store(y + i, mul(mul(load(x + i), inverse), load(weight + i)));
}

// Pairs (i, i + half) turn by the position's angle.
void rotate(float* x, const float* rotation, int half) {
    for (int i = 0; i < half; ++i) {
        const float low = x[i], high = x[i + half], cos = rotation[i], sin = rotation[half + i];
        x[i] = std::fma(-high, sin, low * cos);
        x[i + half] = std::fma(low, sin, high * cos);
    }
}

// Keys or values into the cache, and as they are there.
void keep(float* x, int dim, uint16_t* place) {
    uint8_t* bytes = reinterpret_cast<uint8_t*>(place);
    for (int i = 0; i < dim; i += LANES) {
        to_halves(bytes + 2 * i, load(x + i));
        store(x + i, from_halves(bytes + 2 * i));
    }
}

// act(gate) · up for one group of 32, in gate's place. Both activations are gate · sigmoid(f(gate)).
void activate(int32_t activation, float* gate, const float* up) {
    for (int i = 0; i < BLOCK; i += LANES) {
        const Floats g = load(gate + i);
        Floats f = g;
        if (activation == GELU_TANH)  // 2 √(2/π) (g + 0.044715 g³)
            f = mul(mul(g, same(1.5957691216057308f)), fma(mul(g, g), same(0.044715f), same(1)));
        const Floats sigmoid = div(same(1), add(same(1), exp(mul(f, same(-1)))));
        store(gate + i, mul(mul(g, sigmoid), load(up + i)));
    }
}

void product(Piece piece, const Matrix& w, Quantised x, int rows, float* y) {
    const int panels = panels_of(w);
    multiply(w, x, rows, y, piece.first(panels), piece.last(panels));
}

// A token's row of the embedding.
void look_up(const Network& n, int32_t token, float* x) {
    const Floats scale = same(n.embedding_scale);
    const size_t at = size_t(token) * n.hidden;
    for (int i = 0; i < n.hidden; i += LANES) {
        const Floats numbers = n.plain ? load(static_cast<const float*>(n.embedding) + at + i)
                                       : from_halves(static_cast<const uint8_t*>(n.embedding) + 2 * (at + i));
        store(x + i, mul(numbers, scale));
    }
}

// Where the calling thread's time went, if somebody asks.
class Watch {
  public:
    Watch(int64_t* spent, int me) : spent_(me == 0 ? spent : nullptr), since_(spent_ ? now() : 0) {}
    void note(Part part) {
        if (!spent_) return;
        const int64_t time = now();
        spent_[part] += time - since_;
        since_ = time;
    }

  private:
    static int64_t now() { return std::chrono::steady_clock::now().time_since_epoch().count(); }
    int64_t* spent_;
    int64_t since_;
};

}  // namespace

void forward(const Network& n, const Rows& rows, const Cache& cache, float* x, int first, int last,
             const Taps& taps, int threads, int64_t* spent) {
    const int count = rows.count, all_heads = n.heads + 2 * n.kv_heads, share = n.heads / n.kv_heads;
    const int width = all_heads * n.dim, mixed_width = n.heads * n.dim, part = partial_size(n.dim);
    int longest = 0;
    for (int r = 0; r < count; ++r) longest = std::max(longest, rows.positions[r] + 1);
    // Few rows leave threads without work unless they share the sections of one, as far as that takes no more
    // than MOST_PARTIAL of memory; the bits are the same.
    int splits = count * n.kv_heads < 4 * threads ? (longest + SECTION - 1) / SECTION : 1;
    if (size_t(count) * n.heads * splits * part > MOST_PARTIAL) splits = 1;
    Scratch& memory = scratch();
    // What the stream gives to a product, and what attention and MLP give: one is written while the other is read.
    const Quantised outer = memory.outer.of(2 * count, n.hidden);
    const Quantised inner = memory.inner.of(2 * count, std::max(mixed_width, n.ffn));
    float *fused = memory.fused.of(size_t(count) * width), *mixed = memory.mixed.of(size_t(count) * mixed_width);
    float *added = memory.added.of(size_t(count) * n.hidden), *wide = memory.wide.of(size_t(count) * 2 * n.ffn);
    float* partial = memory.partial.of(size_t(count) * n.heads * splits * part);
    const int room = std::max(n.hidden, 2 * SECTION * n.dim + part);  // for each thread
    float* spaces = memory.thread.of(size_t(threads) * room);
    const Section each = section_for(n.dim);
    const std::vector<Run> runs = runs_of(rows, std::clamp(count * n.kv_heads / (4 * threads), 1, LOOKS));

    // Adds what the last part made to the stream, then norms and quantises the stream for the next one.
    const auto renew = [&](Piece piece, float* space, float* tap, const float* post_norm, const float* norm, int terms,
                           bool add_it) {
        for (int r = piece.first(count); r < piece.last(count); ++r) {
            float *stream = x + size_t(r) * n.hidden, *more = added + size_t(r) * n.hidden;
            if (add_it) {
                if (post_norm) rms_norm(more, post_norm, n.hidden, n.eps, more);
                if (tap) std::copy_n(more, n.hidden, tap + size_t(r) * n.hidden);
                for (int i = 0; i < n.hidden; i += LANES) store(stream + i, add(load(stream + i), load(more + i)));
            }
            if (norm) rms_norm(stream, norm, n.hidden, n.eps, space);
            quantise(norm ? space : stream, n.hidden, terms, outer, r, 0, n.hidden / BLOCK);
        }
    };
    const auto place_of = [&](int r, int kv, int position) {
        return (int64_t(rows.slots[r]) * n.kv_heads + kv) * cache.head + int64_t(position) * n.dim;
    };

    // The first position that a row sees.
    const auto start_of = [&](const Layer& layer, int r) {
        return layer.window ? std::max(0, rows.positions[r] + 1 - layer.window) : 0;
    };

    // Whether the heads of a KV head are whole blocks of the next product's input.
    const bool aligned = share * n.dim % BLOCK == 0;
    // Takes the sections' results of the heads at one KV head together, and divides by the mass.
    const auto finish = [&](const Layer& layer, int r, int kv) {
        const int begin = splits == 1 ? 0 : start_of(layer, r) / SECTION;
        const int end = splits == 1 ? 1 : rows.positions[r] / SECTION + 1;
        float* row = mixed + size_t(r) * mixed_width;
        for (int head = kv * share; head < (kv + 1) * share; ++head) {
            float* sum = partial + ((size_t(r) * n.heads + head) * splits + begin) * part;
            for (int s = 1; s < end - begin; ++s) fold(sum, sum + size_t(s) * part, n.dim);
            const Floats inverse = same(1 / sum[n.dim + 1]);
            for (int i = 0; i < n.dim; i += LANES) store(row + head * n.dim + i, mul(load(sum + i), inverse));
        }
        const int blocks = share * n.dim / BLOCK;
        if (aligned) quantise(row, mixed_width, layer.output.terms, inner, r, kv * blocks, (kv + 1) * blocks);
    };

    Team::only().run(threads, [&](Team::Member& member) {
        float* space = spaces + size_t(member.me) * room;
        Watch watch(spent, member.me);
        for (int index = first; index < last; ++index) {
            const Layer& layer = n.layers[index];
            uint16_t *keys = cache.keys + index * cache.layer, *values = cache.values + index * cache.layer;
            if (index == first) {
                if (!member.share([&](Piece piece) {
                    for (int r = piece.first(count); rows.tokens && r < piece.last(count); ++r)
                        look_up(n, rows.tokens[r], x + size_t(r) * n.hidden);
                    renew(piece, space, nullptr, nullptr, layer.attention_norm, layer.qkv.terms, false);
                })) return false;
                watch.note(ROWS);
            }
            if (!member.share([&](Piece piece) { product(piece, layer.qkv, outer, count, fused); })) return false;
            watch.note(PRODUCTS);

            if (!member.share([&](Piece piece) {
                for (int r = piece.first(count); r < piece.last(count); ++r) {
                    float* row = fused + size_t(r) * width;
                    if (layer.q_norm && n.norm_whole) {
                        rms_norm(row, layer.q_norm, mixed_width, n.eps, row);
                        rms_norm(row + mixed_width, layer.k_norm, n.kv_heads * n.dim, n.eps, row + mixed_width);
                    }
                    for (int h = 0; h < n.heads + n.kv_heads; ++h) {
                        float* head = row + h * n.dim;
                        if (layer.q_norm && !n.norm_whole)
                            rms_norm(head, h < n.heads ? layer.q_norm : layer.k_norm, n.dim, n.eps, head);
                        rotate(head, layer.rotation + size_t(rows.positions[r]) * n.rotary, n.rotary / 2);
                    }
                    for (int kv = 0; kv < n.kv_heads; ++kv) {
                        const int64_t place = place_of(r, kv, rows.positions[r]);
                        keep(row + (n.heads + kv) * n.dim, n.dim, keys + place);
                        keep(row + (n.heads + n.kv_heads + kv) * n.dim, n.dim, values + place);
                    }
                    if (taps.qkv) std::copy_n(row, width, taps.qkv + size_t(r) * width);
                }
            })) return false;
            watch.note(ROWS);

            // Later rows of a prompt see more: dealt out in turn, so that the threads end together. Sections are
            // alike, and stand side by side in memory, so each thread takes neighbours.
            const int items = int(runs.size()) * n.kv_heads * splits;
            const auto item_of = [&](int number, Item& item) {
                const Run& run = runs[number / splits / n.kv_heads];
                const int kv = number / splits % n.kv_heads, split = number % splits;
                const int64_t place = place_of(run.first, kv, 0);
                item.keys = keys + place, item.values = values + place, item.count = run.count;
                for (int i = 0; i < run.count; ++i) {
                    const int r = run.first + i, seen = rows.positions[r] + 1, head = kv * share;
                    Look& look = item.rows[i];
                    look.queries = fused + size_t(r) * width + head * n.dim;
                    look.start = start_of(layer, r), look.end = seen;
                    look.hidden = rows.hidden ? rows.hidden + size_t(r) * longest : nullptr;
                    look.out = partial + ((size_t(r) * n.heads + head) * splits + split) * part;
                    if (splits > 1) {
                        look.start = std::max(look.start, split * SECTION);
                        look.end = std::min(seen, (split + 1) * SECTION);
                    }
                    item.start = i ? std::min(item.start, look.start) : look.start;
                    item.end = i ? std::max(item.end, look.end) : look.end;
                }
            };
            if (!member.share([&](Piece piece) {
                const int step = splits == 1 ? piece.of : 1;
                const int begin = splits == 1 ? piece.index : piece.first(items);
                const int end = splits == 1 ? items : piece.last(items);
                Item now, coming;
                if (begin < end) item_of(begin, coming);
                for (int number = begin; number < end; number += step) {
                    now = coming;
                    if (number + step < end) item_of(number + step, coming);
                    sections(each, share, n.scale, n.dim, now, coming, splits * part, space);
                    for (int i = 0; splits == 1 && i < now.count; ++i)
                        finish(layer, runs[number / n.kv_heads].first + i, number % n.kv_heads);
                }
            })) return false;
            watch.note(ATTENTION);

            if (splits > 1 && !member.share([&](Piece piece) {
                const int heads = count * n.kv_heads;
                for (int item = piece.first(heads); item < piece.last(heads); ++item)
                    finish(layer, item / n.kv_heads, item % n.kv_heads);
            })) return false;
            if (!aligned && !member.share([&](Piece piece) {
                for (int r = piece.first(count); r < piece.last(count); ++r)
                    quantise(mixed + size_t(r) * mixed_width, mixed_width, layer.output.terms, inner, r, 0,
                             mixed_width / BLOCK);
            })) return false;
            watch.note(ROWS);
            if (!member.share([&](Piece piece) { product(piece, layer.output, inner, count, added); })) return false;
            watch.note(PRODUCTS);
            if (!member.share([&](Piece piece) {
                renew(piece, space, taps.attention, layer.attention_post_norm, layer.mlp_norm, layer.gate_up.terms,
                      true);
            })) return false;
            watch.note(ROWS);
            // The columns that a thread makes it activates, too.
            if (!member.share([&](Piece piece) {
                const int first_group = piece.first(n.ffn / BLOCK), last_group = piece.last(n.ffn / BLOCK);
                for (int half = 0; half < 2; ++half) {
                    const int before = half * n.ffn / LANES, panels = BLOCK / LANES;
                    multiply(layer.gate_up, outer, count, wide, before + first_group * panels,
                             before + last_group * panels);
                }
                watch.note(PRODUCTS);
                for (int r = 0; r < count; ++r) {
                    float* gate = wide + size_t(r) * 2 * n.ffn;
                    for (int b = first_group; b < last_group; ++b)
                        activate(n.activation, gate + b * BLOCK, gate + n.ffn + b * BLOCK);
                    quantise(gate, n.ffn, layer.down.terms, inner, r, first_group, last_group);
                }
                watch.note(ROWS);
            })) return false;
            watch.note(ROWS);
            if (!member.share([&](Piece piece) { product(piece, layer.down, inner, count, added); })) return false;
            watch.note(PRODUCTS);
            const Layer& next = n.layers[index + 1 < last ? index + 1 : index];
            if (!member.share([&](Piece piece) {
                renew(piece, space, taps.mlp, layer.mlp_post_norm, next.attention_norm, next.qkv.terms, true);
            })) return false;
            watch.note(ROWS);
        }
        return true;
    });
}

void unembed(const Matrix& head, const float* norm, float eps, const float* x, int count, float* logits, int threads) {
    const Quantised quantised = scratch().outer.of(2 * count, head.in);
    float* space = scratch().thread.of(head.in);
    for (int r = 0; r < count; ++r) {
        rms_norm(x + size_t(r) * head.in, norm, head.in, eps, space);
        quantise(space, head.in, head.terms, quantised, r, 0, head.in / BLOCK);
    }
    Team::only().share(threads, [&](Piece piece) { product(piece, head, quantised, count, logits); });
}

}  // namespace thermoscope
