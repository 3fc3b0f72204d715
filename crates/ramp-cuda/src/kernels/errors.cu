// Squared differences of two matrices, in f64. A block of threads for each row gives three sums: differences weighted by a
// number for each column (1 without), weights of `a` weighted alike, and differences.

__device__ __forceinline__ double block_sum(double value, double* scratch) {
    for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffff, value, distance);
    __syncthreads();
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
    __syncthreads();
    value = 0.0;
    for (int i = 0; i < blockDim.x / 32; i++) value += scratch[i];
    return value;
}

extern "C" __global__ void errors(const float* a, i64 ld_a, const float* b, i64 ld_b, const float* importance, double* out,
                                  int width) {
    __shared__ double scratch[32];
    a += blockIdx.x * ld_a;
    b += blockIdx.x * ld_b;
    double weighted = 0.0, norm = 0.0, plain = 0.0;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        double w = a[i], d = w - (double)b[i], by = importance ? (double)importance[i] : 1.0;
        weighted += by * d * d;
        norm += by * w * w;
        plain += d * d;
    }
    weighted = block_sum(weighted, scratch);
    norm = block_sum(norm, scratch);
    plain = block_sum(plain, scratch);
    if (threadIdx.x == 0) {
        out[3 * blockIdx.x] = weighted;
        out[3 * blockIdx.x + 1] = norm;
        out[3 * blockIdx.x + 2] = plain;
    }
}

// Of each row, for ln p and logits x, [rows, width] with rows ld apart, and the logits' ln sum exp: the sums of p, of p u and of
// p phi(u), where u = x - lse - ln p and phi(u) = e^u - 1 - u; out is [rows, 3].
extern "C" __global__ void divergence(const float* log_p, i64 ld_p, const float* x, i64 ld_x, const float* lse, double* out,
                                      int width) {
    __shared__ double scratch[32];
    log_p += blockIdx.x * ld_p;
    x += blockIdx.x * ld_x;
    float shift = lse[blockIdx.x];
    double total = 0.0, linear = 0.0, rest = 0.0;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        float p = expf(log_p[i]), u = x[i] - shift - log_p[i], pu = p * u;
        float phi;
        if (fabsf(u) <= 0.5f) {
            float series = 1.0f / 40320.0f;
            series = series * u + 1.0f / 5040.0f;
            series = series * u + 1.0f / 720.0f;
            series = series * u + 1.0f / 120.0f;
            series = series * u + 1.0f / 24.0f;
            series = series * u + 1.0f / 6.0f;
            series = series * u + 0.5f;
            phi = pu * u * series;
        } else {
            phi = expf(log_p[i] + u) - p - pu;
        }
        total += (double)p;
        linear += (double)pu;
        rest += (double)phi;
    }
    total = block_sum(total, scratch);
    linear = block_sum(linear, scratch);
    rest = block_sum(rest, scratch);
    if (threadIdx.x == 0) {
        out[3 * (i64)blockIdx.x] = total;
        out[3 * (i64)blockIdx.x + 1] = linear;
        out[3 * (i64)blockIdx.x + 2] = rest;
    }
}
