/* Fuzzes the reader of tensor files. The first byte chooses between a raw file and a header whose length is right, with
 * as many bytes of data as the second byte says; without the latter few inputs would come as far as the JSON. What is
 * accepted must keep the reader's promises. */
#include "runtime/files/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void require(bool condition) {
    if (!condition) abort();
}

static void fill(int fd, const uint8_t *bytes, size_t n) {
    uint64_t length = n - 2;
    require(ftruncate(fd, 0) == 0);
    if (bytes[0] % 2) {
        require(pwrite(fd, &length, sizeof length, 0) == sizeof length);
        require(pwrite(fd, bytes + 2, n - 2, sizeof length) == (ssize_t)n - 2);
        require(ftruncate(fd, (off_t)(sizeof length + n - 2 + bytes[1])) == 0);
    } else {
        require(pwrite(fd, bytes + 1, n - 1, 0) == (ssize_t)n - 1);
    }
}

static void check_tensor(const lucid_safetensors *file, const lucid_safetensors_tensor *tensor, off_t file_bytes) {
    lucid_dtype dtype;
    require(lucid_safetensors_find(file, tensor->name) == tensor);
    require(tensor->offset >= 10 && tensor->n_bytes >= 0 && tensor->offset + tensor->n_bytes <= file_bytes);
    if (lucid_safetensors_dtype(&dtype, file, tensor)) return;
    require(tensor->n_bytes == tensor->n_elements * (int64_t)lucid_dtype_bytes(dtype));
    void *data = malloc((size_t)tensor->n_bytes + 1);
    require(lucid_safetensors_read(file, tensor, 0, tensor->n_elements, data) == LUCID_OK);
    require(lucid_safetensors_read(file, tensor, 1, tensor->n_elements, data) != LUCID_OK || tensor->n_elements == 0);
    free(data);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    static int fd = -1;
    static char path[64];
    lucid_safetensors *file;
    int count;
    if (n < 2) return 0;
    if (fd < 0) {
        fd = memfd_create("fuzz", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    fill(fd, bytes, n);
    if (lucid_safetensors_open(&file, path)) return 0;
    const lucid_safetensors_tensor *tensors = lucid_safetensors_tensors(file, &count);
    for (int i = 0; i < count; i++) check_tensor(file, &tensors[i], lseek(fd, 0, SEEK_END));
    lucid_safetensors_close(file);
    return 0;
}
