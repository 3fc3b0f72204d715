//! The bytes of ggml itself: SHA-256 of whole encoded matrices.
//!
//! The hashes were made by upstream's `ggml-quants.c`, compiled without contraction of floating-point operations:
//! `gauss` and `edge` by ggml 0.25.3 with gcc and with clang, `hard` by the llama.cpp of llama-cpp-sys-2 0.1.161
//! with gcc.

use sha2::{Digest, Sha256};

use crate::GgmlType::{IQ4_NL, IQ4_XS, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0};
use crate::{GgmlType, encode};

const ROWS: usize = 16;
const COLUMNS: usize = 4096;

/// splitmix64, the state advanced before it is mixed.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }
}

/// Near-Gaussian weights, exact in binary32.
pub(super) fn gauss() -> Vec<f32> {
    let mut random = SplitMix64(1);
    (0..ROWS * COLUMNS)
        .map(|_| {
            let z = random.next();
            let sum: i32 = (0..4).map(|field| (z >> (16 * field) & 0xffff) as i32).sum();
            (sum - 131_070) as f32 * 2.0_f32.powi(-20)
        })
        .collect()
}

pub(super) fn importance() -> Vec<f32> {
    let mut random = SplitMix64(2);
    (0..COLUMNS).map(|_| (1 + (random.next() & 0xffff)) as f32 * 2.0_f32.powi(-12)).collect()
}

/// The same with every kind of row that once made a quantizer fail.
fn edge() -> Vec<f32> {
    let mut x = gauss();
    for (row, x) in x.chunks_exact_mut(COLUMNS).enumerate() {
        for (i, x) in x.iter_mut().enumerate() {
            *x = match row {
                0 => 0.0,
                1 => 0.5,
                2 => -0.5,
                3 if i % 256 == 17 => 8.0,
                4 if i % 256 == 200 => -8.0,
                3 | 4 => *x * 2.0_f32.powi(-6),
                5 => x.abs(),
                6 => -x.abs(),
                7 if i / 32 % 2 == 1 => 0.0,
                8 => *x * 2.0_f32.powi(-20),
                9 => *x * 2.0_f32.powi(-60),
                10 if i % 2 == 0 => -0.25,
                10 => 0.25,
                11 => ((i % 32) as f32 - 16.0) / 32.0,
                12 if i % 16 != 0 => 0.0,
                13 => *x * 1024.0,
                14 if i % 16 == 0 => -0.0,
                14 => 0.0,
                _ => *x,
            }
        }
    }
    x
}

/// Rows of [`hard`].
const HARD_ROWS: usize = 512;

/// Sub-blocks of eight kinds and of magnitudes from 2^-40 to 2^9 side by side, and importance with zeros and
/// values from 1e-8 to 1e6: where sums cancel and codes leave their range (with this seed also the 6 bits of a
/// scale, in Q4_K and in Q5_K, which treat it differently).
fn hard() -> (Vec<f32>, Vec<f32>) {
    let mut random = SplitMix64(4);
    let mut uniform = move || (random.next() >> 40) as f32 / 16_777_216.0;
    let mut weights = Vec::with_capacity(HARD_ROWS * COLUMNS);
    for _ in 0..HARD_ROWS * COLUMNS / 32 {
        let scale = f32::from_bits((87 + (uniform() * 50.0) as u32) << 23);
        let kind = (uniform() * 8.0) as u32;
        for _ in 0..32 {
            let x = uniform() - uniform();
            let rare = uniform();
            weights.push(
                scale
                    * match kind {
                        0 => x,
                        1 => x.abs(),
                        2 => -x.abs(),
                        3 if rare < 0.125 => x,
                        3 => 0.0,
                        4 => x * x * x * x * 64.0,
                        5 if rare < 0.0625 => x * 128.0,
                        5 => x * 0.007_812_5,
                        6 => 0.375,
                        _ => (x * 4.0).round() * 0.25,
                    },
            );
        }
    }
    let importance = (0..COLUMNS)
        .map(|_| match (uniform() * 6.0) as u32 {
            0 => 0.0,
            1 => 1e-8,
            2 => 1e6,
            _ => uniform(),
        })
        .collect();
    (weights, importance)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check<const N: usize>(weights: &[f32], imatrix: Option<&[f32]>, expected: [(GgmlType, &str); N]) {
    let found =
        expected.map(|(ty, _)| (ty, hex(&Sha256::digest(encode(ty, weights, COLUMNS, imatrix).unwrap()))));
    assert_eq!(found.each_ref().map(|(ty, hash)| (*ty, hash.as_str())), expected);
}

#[test]
fn the_generators_are_those_of_the_vectors() {
    assert_eq!(gauss()[..4], [-0.022_282_6, 0.038_699_15, 0.057_635_307, 0.042_877_197]);
    assert_eq!(importance()[..4], [5.425_537, 1.891_357_4, 5.199_218_8, 15.399_658]);
}

#[test]
fn first_bytes() {
    let x = gauss();
    let expected = [
        (Q3_K, "ec077fa7dde4e73eca8d54af537d38ffe9fb68ad466c35bc"),
        (Q4_K, "dd093216f8edffecfef2bfa13cb3dac487ad9fae8b56ffa8"),
        (Q5_K, "a3053716faedffecfff3bea23dc2fcc5a24b37eb93a8eb73"),
        (Q6_K, "b6711973f86f686c201035224e10161d612d894d4b125101"),
        (Q8_0, "3612e3334c3919cd48f3a001dd05faffe2f80535e1f2ecc6"),
    ];
    for (ty, bytes) in expected {
        assert_eq!(hex(&encode(ty, &x[..256], 256, None).unwrap()[..24]), bytes, "{ty}");
    }
}

#[test]
fn gauss_without_importance() {
    check(
        &gauss(),
        None,
        [
            (Q2_K, "4de4d9207fab866caad0173a7d111d0c8e8f6f5a9bf3c4ca896d8c93c0e332ac"),
            (Q3_K, "7994b011ebf47231725e6c4df625bf9e090cb450fe375821425736e7efad6669"),
            (Q4_K, "d26b1f413e434869e7b4bc834d3cea679f03a2671ad70b0d674a329b2afb6e7e"),
            (Q5_K, "52442bb52d7baffe9b863cd11432ce08ba3fa3647edee343b0b125f4f8738a13"),
            (Q6_K, "6bb0ba3b7a7d85c00f0b0f02d044b622ca22fc923875e17b6e2a9eec864b3e63"),
            (Q8_0, "b5ab3d308ce6a86edd3e7174715214d8e957143342589f5eba8c1fcdac3d8c34"),
            (Q4_0, "9c8f8fa16e0644cba21c7708696f130434c0e82ed5c51a5db326fd7fa3e02a0d"),
            (Q4_1, "7da0e42d08cc1c383b77dff7191e3c24995bafa0e3ace70419c83d131549a5b9"),
            (Q5_0, "5354a9fdad3764bd33accf6998a233db33f1ac0b16655aec58aa4013053127f2"),
            (Q5_1, "cb94fbf73a9f359e9fad3a67f14f0dd0e5eab8d932c08f9cdacc0bebb586f7d3"),
            (IQ4_NL, "00b83825da2040c0cc9320d1d6038d084347ef82feefbf7f69816f125eaacb24"),
            (IQ4_XS, "775e039b907d97da281b4fce76deb0bab46640e4fd09444ea15d70c5660ac07b"),
        ],
    );
}

#[test]
fn gauss_with_importance() {
    check(
        &gauss(),
        Some(&importance()),
        [
            (Q2_K, "457d357f370dbc3e7774a5c19dced05fa5a4a42d5195ccbec2e004617246a8a0"),
            (Q3_K, "bb5e1e0602da2c814887ed14c7ae7f032964c0a5c28181dc3c8c61bd97004494"),
            (Q4_K, "d913c4c1d540fa118f02ac428b0dab405293d17226fce7f448f64f7fea9a329c"),
            (Q5_K, "06501bffcfa9daa341b7be2d381790709b5c735c6953ea9d7fedd19e6a65a1b6"),
            (Q6_K, "057fd2b74c4a12b1573e163366670b8daa9fb16accf82b8531718e293e9f624f"),
            (Q8_0, "b5ab3d308ce6a86edd3e7174715214d8e957143342589f5eba8c1fcdac3d8c34"),
            (Q4_0, "7e7951bff5040fd2785f333315bff896e6637acb24af5bc499f70a1836d3b973"),
            (Q4_1, "0aaebb1ae5a37463182b17a70cf958ea8e627483ebddaa278b43659fbaf0f33e"),
            (Q5_0, "4adca6cd24b7299ad5c0701e62ecfc17d972f3102a7bc9bd9688399b60b202da"),
            (Q5_1, "6ea74d3e656e0f34750c4d2fe2a2463d4b16f076a7f1485704dcedb680e930a4"),
            (IQ4_NL, "859b9bf90e9ad951f75f0aa77ecd4a125bda73c6c9cff3f43747aa4a12b3f3fa"),
            (IQ4_XS, "a8eba111002a9c25acbfaefcf14f13d057883b9f85ba3aa0cc6c0241dd92bac0"),
        ],
    );
}

#[test]
fn edge_without_importance() {
    check(
        &edge(),
        None,
        [
            (Q2_K, "9bff7c26d6d8c8997c9a6f1fc0a80d91b4d35cf651d8e36fd00db024a4ee6b40"),
            (Q3_K, "4271d1177918b70570043e38eb9bcd91b56fc343d33acf48ae8f6645e4aaa1cf"),
            (Q4_K, "2af9e3d28d78c0f9b796de4d4c0044e899ad26d8a3fd148f0b9473db24d26781"),
            (Q5_K, "9289867909a1ffbb4c336252528023c70c66dc021c039db5d8ea5d8a5f7948f1"),
            (Q6_K, "4fef04eeb8d25442351f9deac22e708eaa0c6237965280d360ffbf2e8e552b26"),
            (Q8_0, "b5bbbcc9b2585ef3f1e65921d359b0edc43d2062dcbf0219e419cc9db933a82d"),
            (Q4_0, "20f1e1c6928724a6522cc92817f3ce126a12662252a9c06c449c8d215f07ee2e"),
            (Q4_1, "1fbba755cedc6dbadc41d6f17e57f20d9ef33a9871ebbc4cd98038a3061a1ce2"),
            (Q5_0, "e4730a042b3f7ab65a9db4915dd0ce8cfb8d76f2e26fd03b33270dc8d41f2eb2"),
            (Q5_1, "95bff664fcce237b5be293322acff2f0c6865571d005bd5c9627e3fd9ae4444d"),
            (IQ4_NL, "2a61071c24b5794526c0eb49d2bb5e82ee49a7b88f073c9b93da2c7f6990c6d8"),
            (IQ4_XS, "eb780df234f417c036f59f455bff87a4c400455e61012cd97e6c5104e1822236"),
        ],
    );
}

#[test]
fn edge_with_importance() {
    check(
        &edge(),
        Some(&importance()),
        [
            (Q2_K, "23afaafa0850a5bde1e699e77cf1defb45937be0f9b96b26048f7a0e2ed602e5"),
            (Q3_K, "b2176adb95e51b7b62b80b80dd15469d96ad9f9e22d59cfbfc0a0a2b37ee990f"),
            (Q4_K, "bf0090cfdbcd5d028f32f2bfb7035039da33f4a510a3b0b998affabec81888c6"),
            (Q5_K, "0840670c22ba3aab2ed6814ed22fb783a64b95a77c66527109d105bf5bc993b6"),
            (Q6_K, "21a0e08825f37a199c246a171bde15779bf13b843f59c718e559c2c7a9ba7182"),
            (Q8_0, "b5bbbcc9b2585ef3f1e65921d359b0edc43d2062dcbf0219e419cc9db933a82d"),
            (Q4_0, "185bb5efb9123508b3948c88c573cc0afdfbc78759275ec7ca0196f89448ca53"),
            (Q4_1, "23ccec919135ee20ea6d756eceb249e9acffc27ce86ba6b0fe5925b0972729f3"),
            (Q5_0, "cf6f6cd9b0439021dfe2d884b7cfcb304b85ace400f58e5c50fe9859c158f33f"),
            (Q5_1, "365ae01bc9ff3ffd797a99d998f42633b5bdffff18676e3029227460164a0039"),
            (IQ4_NL, "13892c309db8f9df1a19956ab43fb16179b21efe1bfd6e43c69fc45f1f4ff0e6"),
            (IQ4_XS, "b95a88406c3ecef1d8cd010a6a5c2c9097f5b8b67c975352d6298fd6ae7ad376"),
        ],
    );
}

#[test]
fn hard_without_importance() {
    check(
        &hard().0,
        None,
        [
            (Q3_K, "8a85b5f874ccf35a58c46b236227cb14ddb9b114ee24f848d130b458a8d43228"),
            (Q4_K, "c740d969633611f31075f2c182c0e985fce7d189f1abe8ba48ab0ff719c79d5e"),
            (Q5_K, "5a98610150a854e45d8dc2aface96eaf50ab64b8d9f9cdb1476b27535bfd99b4"),
            (Q6_K, "45dcc9f40fa335cb636027e168e8f300ae5dbee9ade9bd60da9bcba7758d1a4e"),
            (Q8_0, "f079947c9979d37237e84c93fcc13a95057cff6cba106eb6dd9137970ab36609"),
        ],
    );
}

#[test]
fn hard_with_importance() {
    let (weights, importance) = hard();
    check(
        &weights,
        Some(&importance),
        [
            (Q3_K, "2c8b380742b07b55da96cdc4bbf0df93239afcbcc1ccc412977d3666a642e03d"),
            (Q4_K, "8dcaf99ec8198cd360581557eb4d2cab8fd57135f3aa57bea3f8637340aeea8e"),
            (Q5_K, "67ccc96eb11a2e1db9b02a3d354ee25102abd1e9c4d6259786c613db6d12a15d"),
            (Q6_K, "fa97e571a1cd44942d23f5ecef7d1e4e4218dc1b4f92225495428aa659ee3356"),
            (Q8_0, "f079947c9979d37237e84c93fcc13a95057cff6cba106eb6dd9137970ab36609"),
        ],
    );
}
