# Writes version.h with the commit that is checked out; run at each build, it touches the file only when that changes.
set(LUCID_COMMIT unknown)
find_program(GIT git)
if(GIT)
    execute_process(COMMAND ${GIT} -C ${SOURCE} describe --always --dirty --abbrev=10
        OUTPUT_VARIABLE described OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
    if(NOT failed)
        set(LUCID_COMMIT ${described})
    endif()
endif()
configure_file(${SOURCE}/launch/version.h.in ${OUTPUT} @ONLY)
