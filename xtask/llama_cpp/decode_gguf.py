"""A quantized GGUF file with the same weights in F32: `python decode_gguf.py IN.gguf OUT.gguf` (needs the package gguf).

llama.cpp multiplies quantized weights with activations rounded to 8 bits. On the decoded file it computes in f32, so
that what is left of a difference from RAMP is not that rounding.
"""

import sys

from gguf import GGUFReader, GGUFValueType, GGUFWriter, dequantize


def main(source, target):
    reader = GGUFReader(source)
    writer = GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kind = field.types[0]
        element = field.types[-1] if kind == GGUFValueType.ARRAY else None
        value = field.contents()
        if name == "general.file_type":
            value = 0
        writer.add_key_value(name, value, kind, element)
    for tensor in reader.tensors:
        data = dequantize(tensor.data, tensor.tensor_type).astype("float32")
        writer.add_tensor(tensor.name, data.reshape([int(n) for n in reversed(tensor.shape)]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
