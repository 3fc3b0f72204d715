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
