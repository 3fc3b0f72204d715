// K-quants to weights: a block of 256 threads for each super-block of 256 weights, a thread for each weight. The same
// operations in the same order as on the CPU; layouts as in ramp-gguf's block.rs. Super-blocks follow one another without
// gaps and are at even addresses only.

__device__ __forceinline__ float half_at(const u8* p) {
    f16 h;
    h.bits = (u16)(p[0] | p[1] << 8);
    return get(h);
}

// Scale and minimum of sub-block j of Q4_K and Q5_K.
__device__ __forceinline__ void scale_and_min(const u8* packed, int j, float& scale, float& min) {
    if (j < 4) {
        scale = (float)(packed[j] & 63);
        min = (float)(packed[j + 4] & 63);
    } else {
        scale = (float)((packed[j + 4] & 0xf) | (packed[j - 4] >> 6) << 4);
        min = (float)((packed[j + 4] >> 4) | (packed[j] >> 6) << 4);
    }
}

// scales[16], qs[64], d, dmin.
struct Q2K {
    static constexpr int bytes = 84;
    static __device__ __forceinline__ float weight(const u8* b, int i) {
        float d = half_at(b + 80), dmin = half_at(b + 82);
        int code = b[16 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
        u8 sub = b[i / 16];
        return d * (float)(sub & 0xf) * (float)code - dmin * (float)(sub >> 4);
    }
};

// hmask[32], qs[64], scales[12], d.
struct Q3K {
    static constexpr int bytes = 110;
    static __device__ __forceinline__ float weight(const u8* b, int i) {
        float d = half_at(b + 108);
        int low = b[32 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
        int high = b[i % 32] >> (i / 32) & 1;
        int j = i / 16;
        const u8* packed = b + 96;
        int scale = (packed[j % 8] >> (j / 8 * 4) & 0xf) | (packed[8 + j % 4] >> (j / 4 * 2) & 3) << 4;
        return d * ((float)scale - 32.0f) * ((float)(low | high << 2) - 4.0f);
    }
};

// d, dmin, scales[12], qs[128].
struct Q4K {
    static constexpr int bytes = 144;
    static __device__ __forceinline__ float weight(const u8* b, int i) {
        float scale, min;
        scale_and_min(b + 4, i / 32, scale, min);
        int code = b[16 + i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 0xf;
        return half_at(b) * scale * (float)code - half_at(b + 2) * min;
    }
};

// d, dmin, scales[12], qh[32], qs[128].
struct Q5K {
    static constexpr int bytes = 176;
    static __device__ __forceinline__ float weight(const u8* b, int i) {
        float scale, min;
        scale_and_min(b + 4, i / 32, scale, min);
        int low = b[48 + i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 0xf;
        int high = b[16 + i % 32] >> (i / 32) & 1;
        return half_at(b) * scale * (float)(low | high << 4) - half_at(b + 2) * min;
    }
};

// ql[128], qh[64], scales[16] signed, d.
struct Q6K {
    static constexpr int bytes = 210;
    static __device__ __forceinline__ float weight(const u8* b, int i) {
        float d = half_at(b + 208);
        int half = i / 128, l = i % 32, quarter = i / 32 % 4;
        int low = b[half * 64 + quarter % 2 * 32 + l] >> (quarter / 2 * 4) & 0xf;
        int high = b[128 + half * 32 + l] >> (quarter * 2) & 3;
        float scale = (float)(signed char)b[192 + i / 16];
        return d * scale * ((float)(low | high << 4) - 32.0f);
    }
};

// d, scales_h[2], scales_l[4], qs[128].
struct IQ4XS {
    static constexpr int bytes = 136;
    static __device__ __forceinline__ float weight(const u8* b, int i) {
        const float values[16] = {-127.0f, -104.0f, -83.0f, -65.0f, -49.0f, -35.0f, -22.0f, -10.0f,
                                  1.0f,    13.0f,   25.0f,  38.0f,  53.0f,  69.0f,  89.0f,  113.0f};
        int j = i / 32;
        int scale = (b[4 + j / 2] >> (4 * (j % 2)) & 0xf) | ((b[2] | b[3] << 8) >> (2 * j) & 3) << 4;
        int code = b[8 + j * 16 + i % 16] >> (i / 16 % 2 * 4) & 0xf;
        return half_at(b) * ((float)scale - 32.0f) * values[code];
    }
};

template <class Block, class T>
__device__ void decode(const u8* blocks, T* out) {
    i64 block = blockIdx.x;
    put(out + block * 256 + threadIdx.x, Block::weight(blocks + block * Block::bytes, threadIdx.x));
}

#define DECODE(NAME, BLOCK)                                                                                            \
    extern "C" __global__ void NAME##_float(const u8* blocks, float* out) { decode<BLOCK>(blocks, out); }              \
    extern "C" __global__ void NAME##_bf16(const u8* blocks, bf16* out) { decode<BLOCK>(blocks, out); }                \
    extern "C" __global__ void NAME##_f16(const u8* blocks, f16* out) { decode<BLOCK>(blocks, out); }

DECODE(q2_k, Q2K)
DECODE(q3_k, Q3K)
DECODE(q4_k, Q4K)
DECODE(q5_k, Q5K)
DECODE(q6_k, Q6K)
DECODE(iq4_xs, IQ4XS)
