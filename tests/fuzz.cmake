# lucid_fuzz(<module>.<subject> SOURCES ... LIBRARIES ... SEEDER target [INCLUDES ...] [DEPENDS target ...])
#   builds bin/fuzz_<module>_<subject> with clang's libFuzzer, whatever the main compiler is, and registers the test
#   <module>.<subject>; SEEDER is a program of ours that writes the first inputs into a folder. Without such a clang the test
#   is skipped and says why. The fuzzers bring their own sanitizers, so a build with sanitizers has none.
include_guard()
find_program(LUCID_FUZZ_CLANG NAMES clang clang-19 clang-18 clang-17 clang-16 clang-15 clang-14)
set(LUCID_FUZZ_FLAGS -std=gnu11 -g -O1 -D_GNU_SOURCE -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all)

# Not every clang brings libFuzzer.
function(lucid_find_fuzzer works)
    set(source ${CMAKE_CURRENT_BINARY_DIR}/probe_fuzzer.c)
    set(result 1)
    if(LUCID_FUZZ_CLANG)
        file(WRITE ${source} "int LLVMFuzzerTestOneInput(const char *x, long n) { return x == 0 && n > 0; }\n")
        execute_process(COMMAND ${LUCID_FUZZ_CLANG} ${LUCID_FUZZ_FLAGS} ${source} -o ${source}.out
            RESULT_VARIABLE result OUTPUT_QUIET ERROR_QUIET)
    endif()
    if(result EQUAL 0)
        set(${works} TRUE PARENT_SCOPE)
    else()
        set(${works} FALSE PARENT_SCOPE)
    endif()
endfunction()

function(lucid_fuzz name)
    cmake_parse_arguments(F "" "SEEDER" "SOURCES;LIBRARIES;INCLUDES;DEPENDS" ${ARGN})
    if(LUCID_SANITIZE)
        return()
    endif()
    lucid_find_fuzzer(works)
    if(NOT works)
        lucid_add_test(${name} COMMAND sh -c "echo 'skipped: no clang with -fsanitize=fuzzer'; exit 77" LABELS fuzz)
        return()
    endif()
    string(REPLACE "." "_" target fuzz_${name})
    set(program ${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/${target})
    list(TRANSFORM F_INCLUDES PREPEND -I)
    add_custom_command(OUTPUT ${program} DEPENDS ${F_SOURCES} COMMAND_EXPAND_LISTS VERBATIM
        WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}
        COMMAND ${LUCID_FUZZ_CLANG} ${LUCID_FUZZ_FLAGS} -I${PROJECT_SOURCE_DIR} ${F_INCLUDES} ${F_SOURCES} ${F_LIBRARIES}
                -lm -o ${program})
    add_custom_target(${target} ALL DEPENDS ${program})
    add_dependencies(${target} ${F_SEEDER} ${F_DEPENDS})
    lucid_add_test(${name} COMMAND ${PROJECT_SOURCE_DIR}/tests/fuzz.sh ${program} $<TARGET_FILE:${F_SEEDER}> LABELS fuzz)
endfunction()
