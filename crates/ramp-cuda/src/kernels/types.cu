// Floats of 16 bits without headers, so that NVRTC needs none. Arithmetic is f32.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef long long i64;

struct bf16 { u16 bits; };
struct f16 { u16 bits; };

__device__ __forceinline__ float get(float x) { return x; }
__device__ __forceinline__ float get(bf16 x) { return __uint_as_float((u32)x.bits << 16); }
__device__ __forceinline__ float get(f16 x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}

// To the nearest, ties to even.
__device__ __forceinline__ void put(float* p, float v) { *p = v; }
__device__ __forceinline__ void put(bf16* p, float v) { asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(p->bits) : "f"(v)); }
__device__ __forceinline__ void put(f16* p, float v) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(p->bits) : "f"(v)); }

// Results of a whole block of threads, of which every thread gets the value. A block has at most 32 warps.
struct Sum {
    static __device__ __forceinline__ float of(float a, float b) { return a + b; }
    static constexpr float none = 0.0f;
};
struct Max {
    static __device__ __forceinline__ float of(float a, float b) { return fmaxf(a, b); }
    static constexpr float none = -3.4028234663852886e38f;
};

template <class Op>
__device__ __forceinline__ float all_threads(float value, float* scratch) {
    for (int distance = 16; distance > 0; distance /= 2) {
        value = Op::of(value, __shfl_xor_sync(0xffffffff, value, distance));
    }
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
    __syncthreads();
    if (lane == 0) scratch[warp] = value;
    __syncthreads();
    value = Op::none;
    for (int i = 0; i < warps; i++) value = Op::of(value, scratch[i]);
    return value;
}
