#include "runtime/verify/scalapack.h"

#include "runtime/blas/blas.h"

#include <dlfcn.h>

static bool find(void *routine, void *library, const char *name) {
    void **address = routine; /* POSIX has dlsym's objects hold functions */
    *address = dlsym(library, name);
    return *address != NULL;
}

const lucid_scalapack *lucid_scalapack_load(const char **reason) {
    static lucid_scalapack table;
    static bool loaded;
    if (loaded) return &table;
    lucid_blas_prepare(); /* ScaLAPACK brings a BLAS along, often OpenBLAS */
    void *library = dlopen(LUCID_SCALAPACK_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        *reason = "ScaLAPACK (" LUCID_SCALAPACK_LIBRARY
                  ") cannot be loaded: install it, or name its folder in LD_LIBRARY_PATH";
        return NULL;
    }
    loaded = find(&table.pinfo, library, "Cblacs_pinfo") && find(&table.get, library, "Cblacs_get") &&
             find(&table.gridinit, library, "Cblacs_gridinit") && find(&table.gridexit, library, "Cblacs_gridexit") &&
             find(&table.numroc, library, "numroc_") && find(&table.descinit, library, "descinit_") &&
             find(&table.pdtrtrs, library, "pdtrtrs_");
    if (loaded) return &table;
    *reason = LUCID_SCALAPACK_LIBRARY " lacks a routine that is needed";
    dlclose(library);
    return NULL;
}
