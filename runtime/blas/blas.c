#include "runtime/blas/blas.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

#define LIBRARY "libopenblas.so.0"

static lucid_blas loaded; /* core is NULL where there is no OpenBLAS */
static char reason[256];  /* why */

void lucid_blas_prepare(void) {
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl"))
        setenv("OPENBLAS_CORETYPE", "SkylakeX", 0);
}

static void load(void) {
    char *(*corename)(void);
    lucid_blas_prepare();
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(reason, sizeof reason, "%s", dlerror());
        return;
    }
    *(void **)&corename = dlsym(library, "openblas_get_corename");
    *(void **)&loaded.sgemm = dlsym(library, "cblas_sgemm");
    *(void **)&loaded.sgemv = dlsym(library, "cblas_sgemv");
    *(void **)&loaded.strsm = dlsym(library, "cblas_strsm");
    if (corename && loaded.sgemm && loaded.sgemv && loaded.strsm)
        loaded.core = corename();
    else
        snprintf(reason, sizeof reason, "%s: not all of CBLAS is in it", LIBRARY);
}

lucid_status lucid_blas_open(const lucid_blas **blas) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    if (!loaded.core)
        return lucid_fail(LUCID_ERR_UNSUPPORTED, "OpenBLAS cannot be loaded (%s): install libopenblas0", reason);
    *blas = &loaded;
    return LUCID_OK;
}
