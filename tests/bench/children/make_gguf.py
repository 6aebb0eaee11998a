"""Write a GGUF file with a large vocabulary, by the official writer. Arguments: path, tokens."""

from __future__ import annotations

import sys

import gguf
import numpy as np

path, count = sys.argv[1], int(sys.argv[2])
writer = gguf.GGUFWriter(path, "qwen2")
writer.add_name("Vocabulary")
writer.add_context_length(32768)
writer.add_embedding_length(3584)
writer.add_block_count(28)
writer.add_head_count(28)
writer.add_token_list([f"token-{number}" for number in range(count)])
writer.add_token_types([1] * count)
writer.add_token_merges([f"left{number} right{number}" for number in range(count)])
for number in range(28):
    writer.add_tensor(f"blk.{number}.attn_q.weight", np.zeros((64, 64), dtype=np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
