// Steps of a forward pass between the matrix products. A row is one block of threads.

// Turns heads by their position: the first half of a head pairs with its second. x [rows, heads * 2 * half] with rows
// ld_x apart, out contiguous, cos and sin [positions, half]; row r is at position r % seq.
template <class T>
__device__ void rope(const T* x, i64 ld_x, T* out, const float* cos, const float* sin, int rows, int heads, int half,
                     int seq) {
    i64 index = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= (i64)rows * heads * half) return;
    int i = index % half;
    i64 rest = index / half;
    int head = rest % heads;
    i64 row = rest / heads;
    i64 angle = (row % seq) * half + i;
    const T* from = x + row * ld_x + (i64)head * 2 * half + i;
    T* to = out + row * ((i64)heads * 2 * half) + (i64)head * 2 * half + i;
    float a = get(from[0]), b = get(from[half]);
    float c = cos[angle], s = sin[angle];
    put(to, a * c - b * s);
    put(to + half, b * c + a * s);
}

// Softmax over what a query may see. scores and weights [heads * rows, ld]; row r belongs to query start + r % rows and
// sees the keys max(0, query + 1 - window)..=query; column 0 is key first_key. Columns from `keys` to ld get 0.
template <class T>
__device__ void causal_softmax(const float* scores, T* weights, int rows, int keys, int ld, int start, int first_key,
                               int window) {
    __shared__ float scratch[32];
    i64 at = (i64)blockIdx.x * ld;
    int query = start + blockIdx.x % rows;
    int from = max(0, query + 1 - window) - first_key;
    int to = query + 1 - first_key;
    float most = Max::none;
    for (int j = from + threadIdx.x; j < to; j += blockDim.x) most = fmaxf(most, scores[at + j]);
    most = all_threads<Max>(most, scratch);
    float total = 0.0f;
    for (int j = from + threadIdx.x; j < to; j += blockDim.x) total += expf(scores[at + j] - most);
    total = all_threads<Sum>(total, scratch);
    float scale = 1.0f / total;
    for (int j = threadIdx.x; j < ld; j += blockDim.x) {
        float weight = j >= from && j < to ? expf(scores[at + j] - most) * scale : 0.0f;
        put(weights + at + j, weight);
    }
}

// x / sqrt(mean x^2 + eps) * weight of each row; x [rows, width] with rows ld_x apart.
template <class T>
__device__ void rms_norm(const float* x, i64 ld_x, const float* weight, T* out, int width, float eps) {
    __shared__ float scratch[32];
    x += blockIdx.x * ld_x;
    out += (i64)blockIdx.x * width;
    float squares = 0.0f;
    for (int i = threadIdx.x; i < width; i += blockDim.x) squares += x[i] * x[i];
    squares = all_threads<Sum>(squares, scratch);
    float scale = 1.0f / sqrtf(squares / width + eps);
    for (int i = threadIdx.x; i < width; i += blockDim.x) put(out + i, x[i] * scale * weight[i]);
}

// (x - mean) / sqrt(variance + eps) * weight + bias of each row.
template <class T>
__device__ void layer_norm(const float* x, i64 ld_x, const float* weight, const float* bias, T* out, int width,
                           float eps) {
    __shared__ float scratch[32];
    x += blockIdx.x * ld_x;
    out += (i64)blockIdx.x * width;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < width; i += blockDim.x) sum += x[i];
    float mean = all_threads<Sum>(sum, scratch) / width;
    float squares = 0.0f;
    for (int i = threadIdx.x; i < width; i += blockDim.x) squares += (x[i] - mean) * (x[i] - mean);
    squares = all_threads<Sum>(squares, scratch);
    float scale = 1.0f / sqrtf(squares / width + eps);
    for (int i = threadIdx.x; i < width; i += blockDim.x) put(out + i, (x[i] - mean) * scale * weight[i] + bias[i]);
}

// silu(gate) * up, [rows, width], rows ld_gate and ld_up apart.
template <class T>
__device__ void swiglu(const T* gate, i64 ld_gate, const T* up, i64 ld_up, T* out, int rows, int width) {
    i64 index = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= (i64)rows * width) return;
    i64 row = index / width, column = index % width;
    float g = get(gate[row * ld_gate + column]);
    put(out + index, g / (1.0f + expf(-g)) * get(up[row * ld_up + column]));
}

// ln sum exp of each row.
extern "C" __global__ void log_sum_exp(const float* x, i64 ld_x, float* out, int width) {
    __shared__ float scratch[32];
    x += blockIdx.x * ld_x;
    float most = Max::none;
    for (int i = threadIdx.x; i < width; i += blockDim.x) most = fmaxf(most, x[i]);
    most = all_threads<Max>(most, scratch);
    float total = 0.0f;
    for (int i = threadIdx.x; i < width; i += blockDim.x) total += expf(x[i] - most);
    total = all_threads<Sum>(total, scratch);
    if (threadIdx.x == 0) out[blockIdx.x] = logf(total) + most;
}

#define FOR_TYPE(T)                                                                                                    \
    extern "C" __global__ void rope_##T(const T* x, i64 ld_x, T* out, const float* cos, const float* sin, int rows,    \
                                        int heads, int half, int seq) {                                                \
        rope<T>(x, ld_x, out, cos, sin, rows, heads, half, seq);                                                       \
    }                                                                                                                  \
    extern "C" __global__ void causal_softmax_##T(const float* scores, T* weights, int rows, int keys, int ld,         \
                                                  int start, int first_key, int window) {                              \
        causal_softmax<T>(scores, weights, rows, keys, ld, start, first_key, window);                                  \
    }                                                                                                                  \
    extern "C" __global__ void rms_norm_##T(const float* x, i64 ld_x, const float* weight, T* out, int width,          \
                                            float eps) {                                                               \
        rms_norm<T>(x, ld_x, weight, out, width, eps);                                                                 \
    }                                                                                                                  \
    extern "C" __global__ void layer_norm_##T(const float* x, i64 ld_x, const float* weight, const float* bias, T* out, \
                                              int width, float eps) {                                                  \
        layer_norm<T>(x, ld_x, weight, bias, out, width, eps);                                                         \
    }                                                                                                                  \
    extern "C" __global__ void swiglu_##T(const T* gate, i64 ld_gate, const T* up, i64 ld_up, T* out, int rows,        \
                                          int width) {                                                                 \
        swiglu<T>(gate, ld_gate, up, ld_up, out, rows, width);                                                         \
    }

FOR_TYPE(float)
FOR_TYPE(bf16)
FOR_TYPE(f16)
