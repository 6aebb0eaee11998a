// Print the tensors that llama.cpp wants of a model, given a GGUF file of metadata alone.
// Build beside llama.cpp: c++ -std=c++17 shapes.cpp -I include -I ggml/include -L lib -lllama -lggml -lggml-base
#include <cstdio>
#include <cstring>

#include "gguf.h"
#include "llama.h"

static void tell(ggml_tensor * tensor, void *) {
    printf("%s", tensor->name);
    for (int i = 0; i < ggml_n_dims(tensor); i++) {
        printf(" %lld", (long long) tensor->ne[i]);
    }
    printf("\n");
    memset(tensor->data, 0, ggml_nbytes(tensor));
}

int main(int, char ** argv) {
    gguf_init_params options = { /*no_alloc*/ true, /*ctx*/ nullptr };
    gguf_context * metadata = gguf_init_from_file(argv[1], options);
    llama_backend_init();
    llama_model_params params = llama_model_default_params();
    return metadata && llama_model_init_from_user(metadata, tell, nullptr, params) ? 0 : 1;
}
