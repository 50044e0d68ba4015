// All layers of a decoder for some rows, in one call on all threads: what models/decoder.py does, in this arithmetic.
#pragma once

#include "blocks.h"

namespace thermoscope {

enum Activation : int32_t { SILU, GELU_TANH };

extern "C" struct Layer {
    // RMSNorms before attention and MLP, on each head's q and k [dim] or all of them [heads · dim], and on what
    // attention and MLP add to the stream; null where there is none.
    const float *attention_norm, *q_norm, *k_norm, *attention_post_norm, *mlp_norm, *mlp_post_norm;
    const float* rotation;  // [context, 2, rotary / 2]: cos, sin of each position
    Matrix qkv, output, gate_up, down;
    int32_t window;  // positions that a row looks back at, itself included; 0 for all
};

extern "C" struct Network {
    const Layer* layers;
    int32_t hidden, heads, kv_heads, dim, ffn;
    int32_t rotary;     // numbers of a head that are rotated, the first ones
    int32_t norm_whole; // whether q_norm and k_norm span all heads
    int32_t activation;
    float eps, scale;  // what scores are multiplied with
    // [vocab, hidden] in half precision or, if `plain`, in single; and what its rows are multiplied with.
    const void* embedding;
    int32_t plain;
    float embedding_scale;
};

// One row is one token: its slot and position in the cache. `hidden` is null, or says of every position up to the
// last of all rows' whether the row must not see it; one that is hidden from itself sees nothing.
extern "C" struct Rows {
    int32_t count;
    const int32_t *slots, *positions;  // [count]
    const uint8_t* hidden;             // [count, last position + 1]
    const int32_t* tokens;             // [count], with which the stream begins; null where it has begun
};

// keys and values [layers, slots · kv_heads, context, dim] in half precision; strides in numbers.
extern "C" struct Cache {
    uint16_t *keys, *values;
    int64_t layer, head;
};

// What else to keep of a layer, or nulls: rotated queries and keys with the values
// [count, (heads + 2 kv_heads) · dim], and what attention and MLP added to the residual stream [count, hidden].
extern "C" struct Taps {
    float *qkv, *attention, *mlp;
};

// Nanoseconds that the calling thread spent on each part, waiting included; added up.
enum Part : int32_t { PRODUCTS, ATTENTION, ROWS, PARTS };

// Runs x [count, hidden], the residual stream, through the layers [first, last), in place. A row's result depends
// on its own tokens alone: not on count, not on its slot, not on how a prompt was cut, not on the threads.
void forward(const Network& network, const Rows& rows, const Cache& cache, float* x, int first, int last,
             const Taps& taps, int threads, int64_t* spent);

// logits [count, out] = head(norm(x)); norm is an RMSNorm's weight.
void unembed(const Matrix& head, const float* norm, float eps, const float* x, int count, float* logits, int threads);

}  // namespace thermoscope
