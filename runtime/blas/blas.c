#include "runtime/blas/blas.h"

#include <dlfcn.h>
#include <omp.h>
#include <pthread.h>
#include <stdlib.h>

#define LIBRARY "libopenblas.so.0"

static lucid_blas openblas = {.kind = LUCID_BLAS_OPENBLAS}; /* core is NULL where there is none */
static lucid_blas onednn;                                   /* the same with another sgemm, NULL where there is none */
static char reason[256];                                    /* why there is no OpenBLAS */

void lucid_blas_prepare(void) {
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl"))
        setenv("OPENBLAS_CORETYPE", "SkylakeX", 0);
}

static void load_openblas(void) {
    char *(*corename)(void);
    lucid_blas_prepare();
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(reason, sizeof reason, "%s", dlerror());
        return;
    }
    *(void **)&corename = dlsym(library, "openblas_get_corename");
    *(void **)&openblas.sgemm = dlsym(library, "cblas_sgemm");
    *(void **)&openblas.sgemv = dlsym(library, "cblas_sgemv");
    *(void **)&openblas.strsm = dlsym(library, "cblas_strsm");
    if (corename && openblas.sgemm && openblas.sgemv && openblas.strsm)
        openblas.core = corename();
    else
        snprintf(reason, sizeof reason, "%s: not all of CBLAS is in it", LIBRARY);
}

/* --- oneDNN --- */

/* Row major; trans: 'N' or 'T'. Returns 0, or what is wrong. */
static int (*dnnl_sgemm)(char trans_a, char trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                         int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);

static char trans_of(int trans) {
    return trans == LUCID_BLAS_TRANS ? 'T' : 'N';
}

/* oneDNN takes all threads that OpenMP would give, so it is offered one. Out of memory it fails, which CBLAS cannot
 * report; OpenBLAS has its memory already. */
static void onednn_sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,
                         const float *b, int ldb, float beta, float *c, int ldc) {
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    const int failed = dnnl_sgemm(trans_of(trans_a), trans_of(trans_b), m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    omp_set_num_threads(threads);
    if (failed) openblas.sgemm(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

/* What dnnl_version returns. */
typedef struct {
    int major, minor, patch;
    const char *hash;
    unsigned cpu_runtime, gpu_runtime;
} dnnl_version_record;

/* Builds that have threads of their own (TBB) cannot be kept from using them. */
static bool takes_threads_from_openmp(void *library) {
    enum { SEQUENTIAL = 1, OPENMP = 2 };
    const dnnl_version_record *(*version)(void);
    *(void **)&version = dlsym(library, "dnnl_version");
    return version && (version()->cpu_runtime == SEQUENTIAL || version()->cpu_runtime == OPENMP);
}

static void load_onednn(void) {
    static const char *const names[] = {"libdnnl.so.3", "libdnnl.so.2"};
    void *library = NULL;
    for (size_t i = 0; !library && i < sizeof names / sizeof *names; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!library || !takes_threads_from_openmp(library)) return;
    *(void **)&dnnl_sgemm = dlsym(library, "dnnl_sgemm");
    if (!dnnl_sgemm) return;
    onednn = openblas;
    onednn.kind = LUCID_BLAS_ONEDNN;
    onednn.sgemm = onednn_sgemm;
}

static void load(void) {
    load_openblas();
    if (openblas.core) load_onednn();
}

lucid_status lucid_blas_open(const lucid_blas **blas, lucid_blas_kind kind) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    if (!openblas.core)
        return lucid_fail(LUCID_ERR_UNSUPPORTED,
                          "OpenBLAS cannot be loaded (%s): install libopenblas0, or name its folder in LD_LIBRARY_PATH",
                          reason);
    if (kind == LUCID_BLAS_ONEDNN && !onednn.sgemm)
        return lucid_fail(LUCID_ERR_UNSUPPORTED, "oneDNN cannot be loaded: install libdnnl (built for OpenMP), name "
                                                 "its folder in LD_LIBRARY_PATH, or leave out --blas onednn");
    *blas = kind == LUCID_BLAS_OPENBLAS || !onednn.sgemm ? &openblas : &onednn;
    return LUCID_OK;
}

lucid_status lucid_blas_agree(const lucid_blas **blas, lucid_comm *comm, lucid_blas_kind kind) {
    LUCID_TRY(lucid_comm_agree(comm, lucid_blas_open(blas, kind)));
    double lacking = *blas == &openblas;
    LUCID_TRY(lucid_comm_allreduce(comm, &lacking, 1, LUCID_MAX));
    if (lacking > 0) *blas = &openblas;
    return LUCID_OK;
}

const char *lucid_blas_name(const lucid_blas *blas) {
    return blas->kind == LUCID_BLAS_ONEDNN ? "oneDNN" : "OpenBLAS";
}
