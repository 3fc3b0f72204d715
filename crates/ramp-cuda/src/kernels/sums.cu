// Running sums in f64. They are kept as the bits of i64 tensors.

// sum + x, element by element.
extern "C" __global__ void add_f64(const double* sum, const float* x, double* out, i64 n) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = sum[i] + (double)x[i];
}

// Of each column of x, [rows, width] with rows ld apart: sum of |x|, largest |x|, and sum of x^2, over those in `before`;
// before and out are [3, width]. A block of 256 threads has 32 columns, eight threads for each.
extern "C" __global__ void channel_sums(const float* x, i64 ld, const double* before, double* out, int rows, int width) {
    __shared__ double sums[8][32], squares[8][32];
    __shared__ float largest[8][32];
    int lane = threadIdx.x % 32, part = threadIdx.x / 32;
    int column = blockIdx.x * 32 + lane;
    double sum = 0.0, square = 0.0;
    float most = 0.0f;
    if (column < width) {
        for (int row = part; row < rows; row += 8) {
            float value = x[row * ld + column], size = fabsf(value);
            // A NaN stays: fmaxf would drop it.
            most = size > most || size != size ? size : most;
            sum += (double)size;
            square += (double)value * (double)value;
        }
    }
    sums[part][lane] = sum;
    squares[part][lane] = square;
    largest[part][lane] = most;
    __syncthreads();
    if (part != 0 || column >= width) return;
    for (int i = 1; i < 8; i++) {
        sum += sums[i][lane];
        square += squares[i][lane];
        most = largest[i][lane] > most || largest[i][lane] != largest[i][lane] ? largest[i][lane] : most;
    }
    out[column] = before[column] + sum;
    double old = before[width + column], now = (double)most;
    out[width + column] = now > old || now != now ? now : old;
    out[2 * (i64)width + column] = before[2 * (i64)width + column] + square;
}
