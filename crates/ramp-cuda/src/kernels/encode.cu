// Weights to K-quants: the searches of ramp-gguf's codecs (ggml's), operation by operation, so that the bytes are the same.
// A thread for each sub-block of N weights, THREADS of them side by side; packing is shared by all.

#define THREADS 64
#define EPS 1e-15f

__device__ __forceinline__ int nearest_int(float x) { return (int)(__float_as_uint(x + 12582912.0f) & 0x007fffff) - 0x00400000; }

__device__ __forceinline__ int clamped(int x, int low, int high) { return x < low ? low : x > high ? high : x; }

__device__ __forceinline__ u16 half_bits(float x) {
    f16 h;
    put(&h, x);
    return h.bits;
}

__device__ __forceinline__ float half_rounded(float x) {
    f16 h;
    put(&h, x);
    return get(h);
}

__device__ __forceinline__ bool half_is_finite(u16 bits) { return (bits & 0x7c00) != 0x7c00; }

// The first number of the largest magnitude.
template <int N>
__device__ __forceinline__ float signed_max(const float (&x)[N]) {
    float max = 0.0f;
#pragma unroll
    for (int i = 0; i < N; i++) max = fabsf(x[i]) > fabsf(max) ? x[i] : max;
    return max;
}

// make_qx_quants: the scale, and codes from 0.
template <int N>
__device__ __forceinline__ float make_qx(int nmax, const float (&x)[N], const float (&w)[N], u8 (&codes)[N]) {
    float max = signed_max(x);
    if (fabsf(max) < EPS) {
#pragma unroll
        for (int i = 0; i < N; i++) codes[i] = 0;
        return 0.0f;
    }
    float best_iscale = -(float)nmax / max, scale = 0.0f, best = 0.0f;
    for (int step = -10; step <= 9; step++) {
        if (step == 0) continue;
        // The first one is without a step.
        bool first = step == -10;
        float iscale = first ? best_iscale : -((float)nmax + 0.1f * (float)step) / max;
        float lx = 0.0f, l2 = 0.0f;
#pragma unroll
        for (int i = 0; i < N; i++) {
            float l = (float)clamped(nearest_int(iscale * x[i]), -nmax, nmax - 1);
            lx = lx + w[i] * x[i] * l;
            l2 = l2 + w[i] * l * l;
        }
        if (first) {
            scale = l2 != 0.0f ? lx / l2 : 0.0f;
            best = scale * lx;
        } else if (l2 > 0.0f && lx * lx > best * l2) {
            scale = lx / l2;
            best_iscale = iscale;
            best = scale * lx;
        }
    }
#pragma unroll
    for (int i = 0; i < N; i++) codes[i] = (u8)(clamped(nearest_int(best_iscale * x[i]), -nmax, nmax - 1) + nmax);
    return scale;
}

// make_q3_quants: the scale, and codes from 0.
template <int N>
__device__ __forceinline__ float make_q3(int nmax, const float (&x)[N], u8 (&codes)[N]) {
    float max = signed_max(x);
    if (fabsf(max) < EPS) {
#pragma unroll
        for (int i = 0; i < N; i++) codes[i] = 0;
        return 0.0f;
    }
    float iscale = -(float)nmax / max, lx = 0.0f, l2 = 0.0f;
    int found[N];
#pragma unroll
    for (int i = 0; i < N; i++) {
        found[i] = clamped(nearest_int(iscale * x[i]), -nmax, nmax - 1);
        float l = (float)found[i];
        lx += x[i] * x[i] * x[i] * l;
        l2 += x[i] * x[i] * l * l;
    }
    for (int turn = 0; turn < 5; turn++) {
        bool changed = false;
#pragma unroll
        for (int i = 0; i < N; i++) {
            float w = x[i] * x[i], l = (float)found[i];
            float slx = lx - w * x[i] * l, sl2 = l2 - w * l * l;
            if (slx > 0.0f) {
                int other = clamped(nearest_int(x[i] * sl2 / slx), -nmax, nmax - 1);
                if (other != found[i]) {
                    float o = (float)other;
                    slx += w * x[i] * o;
                    sl2 += w * o * o;
                    if (sl2 > 0.0f && slx * slx * l2 > lx * lx * sl2) {
                        found[i] = other;
                        lx = slx;
                        l2 = sl2;
                        changed = true;
                    }
                }
            }
        }
        if (!changed) break;
    }
#pragma unroll
    for (int i = 0; i < N; i++) codes[i] = (u8)(found[i] + nmax);
    return l2 > 0.0f ? lx / l2 : 0.0f;
}

// How a candidate of make_qkx rounds.
template <bool CLAMP_FIRST>
__device__ __forceinline__ int affine_code(float v, int nmax) {
    if (!CLAMP_FIRST) return clamped(nearest_int(v), 0, nmax);
    float top = (float)nmax;
    return v > 0.0f ? nearest_int(v < top ? v : top) : 0;
}

// make_qkx2_quants, or with CLAMP_FIRST make_qkx3_quants: scale, negated minimum and codes.
template <int N, bool CLAMP_FIRST>
__device__ __forceinline__ void make_qkx(int nmax, const float (&x)[N], const float (&w)[N], float rmin, float rdelta,
                                         int nstep, float& scale, float& negated_min, u8 (&codes)[N]) {
    float min = x[0], max = x[0], sum_w = w[0], sum_x = w[0] * x[0], top = (float)nmax;
#pragma unroll
    for (int i = 1; i < N; i++) {
        min = x[i] < min ? x[i] : min;
        max = x[i] > max ? x[i] : max;
        sum_w += w[i];
        sum_x += w[i] * x[i];
    }
    min = min > 0.0f ? 0.0f : min;
    if (max <= min) {
        scale = 0.0f;
        negated_min = -min;
#pragma unroll
        for (int i = 0; i < N; i++) codes[i] = 0;
        return;
    }
    // The candidate that is the best so far is known by how its codes were found.
    float found_iscale = top / (max - min), found_min = min, best = 0.0f;
    bool found_clamp_first = false;
    scale = 1.0f / found_iscale;
#pragma unroll
    for (int i = 0; i < N; i++) {
        float l = (float)affine_code<false>(found_iscale * (x[i] - min), nmax);
        float diff = scale * l + min - x[i];
        best = best + w[i] * (diff * diff);
    }
    for (int step = 0; step <= nstep; step++) {
        float iscale = (rmin + rdelta * (float)step + top) / (max - min);
        float sum_l = 0.0f, sum_l2 = 0.0f, sum_xl = 0.0f;
#pragma unroll
        for (int i = 0; i < N; i++) {
            float l = (float)affine_code<CLAMP_FIRST>(iscale * (x[i] - min), nmax);
            sum_l += w[i] * l;
            sum_l2 += w[i] * l * l;
            sum_xl += w[i] * l * x[i];
        }
        float determinant = sum_w * sum_l2 - sum_l * sum_l;
        if (determinant > 0.0f) {
            float this_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
            float this_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
            if (this_min > 0.0f) {
                this_min = 0.0f;
                this_scale = sum_xl / sum_l2;
            }
            float error = 0.0f;
#pragma unroll
            for (int i = 0; i < N; i++) {
                float l = (float)affine_code<CLAMP_FIRST>(iscale * (x[i] - min), nmax);
                float diff = this_scale * l + this_min - x[i];
                error = error + w[i] * (diff * diff);
            }
            if (error < best) {
                best = error;
                found_iscale = iscale;
                found_min = min;
                found_clamp_first = CLAMP_FIRST;
                scale = this_scale;
                min = this_min;
            }
        }
    }
    negated_min = -min;
#pragma unroll
    for (int i = 0; i < N; i++) {
        float v = found_iscale * (x[i] - found_min);
        codes[i] = (u8)(found_clamp_first ? affine_code<true>(v, nmax) : affine_code<false>(v, nmax));
    }
}

// make_qp_quants: the factor, and codes as a uint8_t holds them.
template <int N>
__device__ float make_qp(int nmax, const float* x, const float* w, u8* codes) {
    float max = 0.0f;
    for (int i = 0; i < N; i++) max = max > x[i] ? max : x[i];
    if (max < EPS) {
        for (int i = 0; i < N; i++) codes[i] = 0;
        return 0.0f;
    }
    float iscale = (float)nmax / max, best = 0.0f;
    for (int step = -5; step <= 4; step++) {
        if (step == 0) continue;
        bool first = step == -5;
        float candidate = first ? iscale : (0.1f * (float)step + (float)nmax) / max;
        float scale = 1.0f / candidate, error = 0.0f;
        for (int i = 0; i < N; i++) {
            int l = nearest_int(candidate * x[i]);
            float diff = x[i] - scale * (float)(first ? (int)(u8)l : l < nmax ? l : nmax);
            error = error + w[i] * diff * diff;
        }
        if (first || error < best) {
            best = error;
            iscale = candidate;
        }
    }
    float lx = 0.0f, l2 = 0.0f;
    for (int i = 0; i < N; i++) {
        int l = nearest_int(iscale * x[i]);
        l = l < nmax ? l : nmax;
        codes[i] = (u8)l;
        lx += w[i] * x[i] * (float)l;
        l2 += w[i] * (float)l * (float)l;
    }
    for (int turn = 0; turn < 5; turn++) {
        bool changed = false;
        for (int i = 0; i < N; i++) {
            float l = (float)codes[i];
            float slx = lx - w[i] * x[i] * l, sl2 = l2 - w[i] * l * l;
            if (slx > 0.0f && sl2 > 0.0f) {
                int other = nearest_int(x[i] * sl2 / slx);
                other = other < nmax ? other : nmax;
                if (other != (int)codes[i]) {
                    float o = (float)other;
                    slx += w[i] * x[i] * o;
                    sl2 += w[i] * o * o;
                    if (slx * slx * l2 > lx * lx * sl2) {
                        codes[i] = (u8)other;
                        lx = slx;
                        l2 = sl2;
                        changed = true;
                    }
                }
            }
        }
        if (!changed) break;
    }
    return l2 > 0.0f ? lx / l2 : 0.0f;
}

// Scales of a super-block relative to the largest one.
template <int N>
__device__ float relative(float top, const float* x, u8* codes) {
    float max = 0.0f;
    for (int i = 0; i < N; i++) max = x[i] > max ? x[i] : max;
    float inverse = max > 0.0f ? top / max : 0.0f;
    for (int i = 0; i < N; i++) codes[i] = (u8)nearest_int(inverse * x[i]);
    return max / top;
}

// What the threads of one super-block share.
template <int N>
struct SuperBlock {
    // A sub-block begins in another bank than its neighbour.
    float x[256 / N][N + 1];
    float sigma2;
    float scales[256 / N], mins[256 / N], sums[256 / N];
    u8 integers[256 / N], min_integers[256 / N];
    u8 packed[16];
    float d, dmin;
    u8 codes[256];
};

template <int N>
__device__ __forceinline__ void codes_again(const float (&x)[N], float d, float m, int low, int high, u8 (&codes)[N]) {
    if (d == 0.0f) return;
#pragma unroll
    for (int i = 0; i < N; i++) codes[i] = (u8)(clamped(nearest_int((x[i] + m) / d), low, high) - low);
}

// Errors weighted by importance * sqrt(sigma2 + x^2).
template <int N>
__device__ __forceinline__ void weigh(const float (&x)[N], const float* importance, float sigma2, float (&w)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) w[i] = importance[i] * sqrtf(sigma2 + x[i] * x[i]);
}

template <int N>
__device__ __forceinline__ float sum(const float (&w)[N]) {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < N; i++) sum = sum + w[i];
    return sum;
}

// A byte of two-bit codes, [half][32], as Q3_K has them.
__device__ __forceinline__ u8 two_bits(const u8* codes, int at) {
    const u8* h = codes + at / 32 * 128 + at % 32;
    return (u8)((h[0] & 3) | (h[32] & 3) << 2 | (h[64] & 3) << 4 | (h[96] & 3) << 6);
}

__device__ __forceinline__ u8 byte_of(u16 bits, int which) { return (u8)(bits >> (8 * which)); }

// Bit `bit` and those above of the codes l, 32 + l, ...
__device__ __forceinline__ u8 high_bits(const u8* codes, int l, int bit) {
    int byte = 0;
    for (int k = 0; k < 8; k++) byte |= (codes[32 * k + l] >> bit) << k;
    return (u8)byte;
}

struct EncodeQ3 {
    static constexpr int N = 16, bytes = 110;
    typedef SuperBlock<16> Shared;
    static __device__ __forceinline__ void search(const float (&x)[16], const float* importance, Shared& s, int j,
                                                  u8 (&codes)[16]) {
        if (importance) {
            float w[16];
            weigh(x, importance, s.sigma2, w);
            s.scales[j] = make_qx(4, x, w, codes);
            s.sums[j] = sum(w);
        } else {
            s.scales[j] = make_q3(4, x, codes);
        }
    }
    static __device__ void integers(Shared& s, int j, bool weighted) {
        if (j != 0) return;
        if (weighted) {
            float x[16], w[16];
            u8 codes[16];
            for (int i = 0; i < 16; i++) {
                x[i] = s.scales[i];
                w[i] = s.sums[i];
            }
            s.d = make_qx(32, x, w, codes);
            for (int i = 0; i < 16; i++) s.integers[i] = codes[i];
            return;
        }
        float max = 0.0f;
        for (int i = 0; i < 16; i++) max = fabsf(s.scales[i]) > fabsf(max) ? s.scales[i] : max;
        float inverse = -32.0f / max;
        s.d = max == 0.0f ? 0.0f : 1.0f / inverse;
        for (int i = 0; i < 16; i++) {
            int code = clamped((int)(signed char)nearest_int(inverse * s.scales[i]), -32, 31) + 32;
            s.integers[i] = max == 0.0f ? 0 : (u8)code;
        }
    }
    static __device__ __forceinline__ void again(const float (&x)[16], const Shared& s, int j, u8 (&codes)[16]) {
        codes_again(x, half_rounded(s.d) * ((float)s.integers[j] - 32.0f), 0.0f, -4, 3, codes);
    }
    // hmask[32], qs[64], scales[12], d.
    static __device__ u8 byte(const Shared& s, int at) {
        if (at < 32) return high_bits(s.codes, at, 2);
        if (at < 96) return two_bits(s.codes, at - 32);
        if (at < 104) return (u8)((s.integers[at - 96] & 15) | (s.integers[at - 88] & 15) << 4);
        if (at < 108) {
            int byte = 0;
            for (int k = 0; k < 4; k++) byte |= (s.integers[at - 104 + 4 * k] >> 4) << (2 * k);
            return (u8)byte;
        }
        return byte_of(half_bits(s.d), at - 108);
    }
    static __device__ bool finite(const Shared& s) { return half_is_finite(half_bits(s.d)); }
};

template <int NMAX>
struct EncodeAffine {
    static constexpr int N = 32, bytes = NMAX == 15 ? 144 : 176;
    typedef SuperBlock<32> Shared;
    static __device__ __forceinline__ void search(const float (&x)[32], const float* importance, Shared& s, int j,
                                                  u8 (&codes)[32]) {
        float w[32];
        if (importance) {
            weigh(x, importance, s.sigma2, w);
            make_qkx<32, true>(NMAX, x, w, -0.9f, 0.05f, 36, s.scales[j], s.mins[j], codes);
        } else {
            float squares = 0.0f;
#pragma unroll
            for (int i = 0; i < 32; i++) squares = squares + x[i] * x[i];
            float rms = sqrtf(squares / 32.0f);
#pragma unroll
            for (int i = 0; i < 32; i++) w[i] = rms + fabsf(x[i]);
            make_qkx<32, false>(NMAX, x, w, NMAX == 15 ? -1.0f : -0.5f, 0.1f, NMAX == 15 ? 20 : 15, s.scales[j],
                                s.mins[j], codes);
        }
        s.sums[j] = sum(w);
    }
    static __device__ void integers(Shared& s, int j, bool weighted) {
        if (j > 1) return;
        const float* x = j == 0 ? s.scales : s.mins;
        u8* codes = j == 0 ? s.integers : s.min_integers;
        float d = weighted ? make_qp<8>(63, x, s.sums, codes) : relative<8>(63.0f, x, codes);
        if (!weighted || NMAX == 31) {
            for (int i = 0; i < 8; i++) codes[i] = codes[i] < 63 ? codes[i] : 63;
        }
        if (j == 0) {
            s.d = d;
        } else {
            s.dmin = d;
        }
    }
    // Codes that do not fit spill into their neighbours': upstream's oversight, and its bytes.
    static __device__ __forceinline__ u8 packed(const Shared& s, int at) {
        const u8 *ls = s.integers, *lm = s.min_integers;
        if (at < 4) return (u8)(ls[at] | ls[at + 4] >> 4 << 6);
        if (at < 8) return (u8)(lm[at - 4] | lm[at] >> 4 << 6);
        return (u8)((ls[at - 4] & 15) | (lm[at - 4] & 15) << 4);
    }
    static __device__ __forceinline__ void again(const float (&x)[32], const Shared& s, int j, u8 (&codes)[32]) {
        int scale, min;
        if (j < 4) {
            scale = packed(s, j) & 63;
            min = packed(s, j + 4) & 63;
        } else {
            int low = packed(s, j + 4);
            scale = (low & 15) | packed(s, j - 4) >> 6 << 4;
            min = low >> 4 | packed(s, j) >> 6 << 4;
        }
        float d = half_rounded(s.d) * (float)scale, m = half_rounded(s.dmin) * (float)min;
        codes_again(x, d, m, 0, NMAX, codes);
    }
    // d, dmin, scales[12], of Q5_K qh[32], qs[128].
    static __device__ u8 byte(const Shared& s, int at) {
        if (at < 2) return byte_of(half_bits(s.d), at);
        if (at < 4) return byte_of(half_bits(s.dmin), at - 2);
        if (at < 16) return packed(s, at - 4);
        at -= 16;
        if (NMAX == 31) {
            if (at < 32) return high_bits(s.codes, at, 4);
            at -= 32;
        }
        const u8* pair = s.codes + at / 32 * 64 + at % 32;
        return (u8)((pair[0] & 15) | (pair[32] & 15) << 4);
    }
    static __device__ bool finite(const Shared& s) {
        return half_is_finite(half_bits(s.d)) && half_is_finite(half_bits(s.dmin));
    }
};

struct EncodeQ6 {
    static constexpr int N = 16, bytes = 210;
    typedef SuperBlock<16> Shared;
    static __device__ __forceinline__ void search(const float (&x)[16], const float* importance, Shared& s, int j,
                                                  u8 (&codes)[16]) {
        float w[16];
#pragma unroll
        for (int i = 0; i < 16; i++) w[i] = importance ? importance[i] : x[i] * x[i];
        s.scales[j] = make_qx(32, x, w, codes);
    }
    static __device__ void integers(Shared& s, int j, bool) {
        if (j != 0) return;
        float max = 0.0f;
        for (int i = 0; i < 16; i++) max = fabsf(s.scales[i]) > fabsf(max) ? s.scales[i] : max;
        // A block of zeros.
        s.packed[0] = fabsf(max) < EPS;
        float inverse = -128.0f / max;
        s.d = 1.0f / inverse;
        for (int i = 0; i < 16; i++) {
            int code = nearest_int(inverse * s.scales[i]);
            s.integers[i] = (u8)(code < 127 ? code : 127);
        }
    }
    static __device__ __forceinline__ void again(const float (&x)[16], const Shared& s, int j, u8 (&codes)[16]) {
        codes_again(x, half_rounded(s.d) * (float)(signed char)s.integers[j], 0.0f, -32, 31, codes);
    }
    // ql[128], qh[64], scales[16], d.
    static __device__ u8 byte(const Shared& s, int at) {
        if (s.packed[0]) return 0;
        if (at < 128) {
            const u8* half = s.codes + at / 64 * 128 + at % 64;
            return (u8)((half[0] & 15) | (half[64] & 15) << 4);
        }
        if (at < 192) {
            const u8* half = s.codes + (at - 128) / 32 * 128 + at % 32;
            return (u8)(half[0] >> 4 | half[32] >> 4 << 2 | half[64] >> 4 << 4 | half[96] >> 4 << 6);
        }
        if (at < 208) return s.integers[at - 192];
        return byte_of(half_bits(s.d), at - 208);
    }
    static __device__ bool finite(const Shared& s) { return s.packed[0] || half_is_finite(half_bits(s.d)); }
};

// Rows of `columns` weights, `ld_x` apart, to blocks that follow one another. `importance` has one number for each column, or
// is null. `bad` becomes 1 where a weight or a scale is not finite.
template <class F>
__device__ void encode(const float* x, i64 ld_x, const float* importance, u8* out, float* bad, i64 blocks, int per_row) {
    constexpr int N = F::N, S = 256 / N, SIDE = THREADS / S;
    __shared__ typename F::Shared shared[SIDE];
    i64 first = (i64)blockIdx.x * SIDE;
    int side = blocks - first < SIDE ? (int)(blocks - first) : SIDE;

    bool finite = true;
    for (int i = threadIdx.x; i < side * 256; i += THREADS) {
        i64 block = first + i / 256;
        float weight = x[block / per_row * ld_x + block % per_row * 256 + i % 256];
        finite &= fabsf(weight) <= 3.4028234663852886e38f;
        shared[i / 256].x[i % 256 / N][i % N] = weight;
    }
    if (!finite) *bad = 1.0f;
    __syncthreads();
    int mine = threadIdx.x / S, j = threadIdx.x % S;
    bool active = mine < side;
    typename F::Shared& s = shared[mine];
    if (active && j == 0 && importance) {
        float squares = 0.0f;
        for (int i = 0; i < 256; i++) squares = squares + s.x[i / N][i % N] * s.x[i / N][i % N];
        s.sigma2 = 2.0f * squares / 256.0f;
    }
    __syncthreads();
    float mine_x[N];
    u8 codes[N];
    if (active) {
        const float* weights = importance ? importance + (first + mine) % per_row * 256 + j * N : importance;
#pragma unroll
        for (int i = 0; i < N; i++) mine_x[i] = s.x[j][i];
        F::search(mine_x, weights, s, j, codes);
    }
    __syncthreads();
    if (active) F::integers(s, j, importance != 0);
    __syncthreads();
    if (active) {
        F::again(mine_x, s, j, codes);
#pragma unroll
        for (int i = 0; i < N; i++) s.codes[j * N + i] = codes[i];
        if (j == 0 && !F::finite(s)) *bad = 1.0f;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < side * F::bytes; i += THREADS) {
        out[first * F::bytes + i] = F::byte(shared[i / F::bytes], i % F::bytes);
    }
}

#define ENCODE(NAME, FORMAT)                                                                                           \
    extern "C" __global__ void NAME(const float* x, i64 ld_x, const float* importance, u8* out, float* bad, i64 blocks, \
                                    int per_row) {                                                                     \
        encode<FORMAT>(x, ld_x, importance, out, bad, blocks, per_row);                                                \
    }

ENCODE(encode_q3_k, EncodeQ3)
ENCODE(encode_q4_k, EncodeAffine<15>)
ENCODE(encode_q5_k, EncodeAffine<31>)
ENCODE(encode_q6_k, EncodeQ6)
