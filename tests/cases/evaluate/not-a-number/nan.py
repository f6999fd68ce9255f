# Puts NaN for the biases of the output layer.
import json, struct
data = bytearray(open("cls/model.safetensors", "rb").read())
(size,) = struct.unpack_from("<Q", data)
begin, end = json.loads(data[8 : 8 + size])["classifier.out_proj.bias"]["data_offsets"]
for at in range(8 + size + begin, 8 + size + end, 4):
    struct.pack_into("<f", data, at, float("nan"))
open("cls/model.safetensors", "wb").write(data)
