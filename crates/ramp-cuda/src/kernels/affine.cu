// Affine quantization and back of groups of weights: the grid of ramp-quant's affine/grid.rs, operation by operation.

// The largest f16 and the least one above 0.
#define MAX_SCALE 65504.0f
#define MIN_SCALE 5.9604644775390625e-8f

enum Zero { IN_RANGE = 0, PRINTED = 1, CLAMPED = 2, SYMMETRIC = 3 };

__device__ __forceinline__ float to_f16_and_back(float x) {
    f16 h;
    put(&h, x);
    return get(h);
}

__device__ __forceinline__ float between(float x, float low, float high) { return fminf(fmaxf(x, low), high); }

__device__ __forceinline__ void grid(float min, float max, float max_code, int kind, float& scale, float& zero) {
    if (kind == IN_RANGE) {
        min = fminf(min, 0.0f);
        max = fmaxf(max, 0.0f);
    }
    float exact = (max - min) / max_code;
    float largest = fmaxf(fmaxf(-min, max), 0.0f);
    if (kind == PRINTED) exact = fmaxf(exact, largest * (1.0f / 20000.0f));
    if (kind == SYMMETRIC) exact = (largest + largest) / max_code;
    scale = to_f16_and_back(fmaxf(exact, MIN_SCALE));
    if (kind == SYMMETRIC) {
        zero = (max_code + 1.0f) * 0.5f;
        return;
    }
    zero = rintf(-min / scale);
    if (kind != PRINTED) zero = between(zero, 0.0f, max_code);
}

// A warp for each group of `group` weights of a row of `len`; the last group of a row may be short. `bad` becomes 1 where a
// weight is not finite or a scale is beyond f16.
extern "C" __global__ void affine(const float* x, i64 ld_x, float* out, float* bad, int rows, int len, int group,
                                  float max_code, int kind) {
    int lane = threadIdx.x % 32;
    i64 index = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    i64 groups = (len + group - 1) / group;
    if (index >= rows * groups) return;
    i64 row = index / groups;
    int first = (int)(index % groups) * group;
    int n = min(group, len - first);
    x += row * ld_x + first;
    out += row * len + first;

    float least = __int_as_float(0x7f800000), most = -least;
    bool finite = true;
    for (int i = lane; i < n; i += 32) {
        float w = x[i];
        finite &= fabsf(w) < __int_as_float(0x7f800000);
        least = fminf(least, w);
        most = fmaxf(most, w);
    }
    for (int distance = 16; distance > 0; distance /= 2) {
        least = fminf(least, __shfl_xor_sync(0xffffffff, least, distance));
        most = fmaxf(most, __shfl_xor_sync(0xffffffff, most, distance));
    }
    float scale, zero;
    grid(least, most, max_code, kind, scale, zero);
    if (!finite || !(scale <= MAX_SCALE)) *bad = 1.0f;
    float inverse = 1.0f / scale;
    for (int i = lane; i < n; i += 32) {
        float code = rintf(between(x[i] * inverse + zero, 0.0f, max_code));
        out[i] = (code - zero) * scale;
    }
}

// The same for groups of 128 weights that begin at multiples of 16 bytes: four neighbours for each thread, read once.
extern "C" __global__ void affine_128(const float4* x, float4* out, float* bad, i64 groups, float max_code, int kind) {
    i64 index = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (index / 32 >= groups) return;
    float4 w = x[index];
    float least = fminf(fminf(w.x, w.y), fminf(w.z, w.w)), most = fmaxf(fmaxf(w.x, w.y), fmaxf(w.z, w.w));
    float largest = fmaxf(fmaxf(fabsf(w.x), fabsf(w.y)), fmaxf(fabsf(w.z), fabsf(w.w)));
    bool nan = w.x != w.x || w.y != w.y || w.z != w.z || w.w != w.w;
    for (int distance = 16; distance > 0; distance /= 2) {
        least = fminf(least, __shfl_xor_sync(0xffffffff, least, distance));
        most = fmaxf(most, __shfl_xor_sync(0xffffffff, most, distance));
    }
    float scale, zero;
    grid(least, most, max_code, kind, scale, zero);
    if (nan || largest > 3.4028234663852886e38f || !(scale <= MAX_SCALE)) *bad = 1.0f;
    float inverse = 1.0f / scale;
    w.x = (rintf(between(w.x * inverse + zero, 0.0f, max_code)) - zero) * scale;
    w.y = (rintf(between(w.y * inverse + zero, 0.0f, max_code)) - zero) * scale;
    w.z = (rintf(between(w.z * inverse + zero, 0.0f, max_code)) - zero) * scale;
    w.w = (rintf(between(w.w * inverse + zero, 0.0f, max_code)) - zero) * scale;
    out[index] = w;
}

extern "C" __global__ void clear(float* x) { *x = 0.0f; }
