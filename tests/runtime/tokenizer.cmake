# Tests of the tokenizers; included by this folder's CMakeLists.txt, after fuzz.cmake.
find_package(PkgConfig REQUIRED)
pkg_check_modules(TOKENIZER_TESTS REQUIRED IMPORTED_TARGET jansson libpcre2-8 libutf8proc)
lucid_test(runtime.tokenizer SOURCES test_tokenizer.c LIBRARIES lucid_tokenizer PkgConfig::TOKENIZER_TESTS)
lucid_test(runtime.tokenizer_golden SOURCES test_tokenizer_golden.c LIBRARIES lucid_tokenizer PkgConfig::TOKENIZER_TESTS
    ARGS ${CMAKE_CURRENT_SOURCE_DIR}/golden/tokenizers)

add_executable(seed_tokenizer seed_tokenizer.c)
target_link_libraries(seed_tokenizer PRIVATE lucid_settings)
get_target_property(tokenizer_sources lucid_tokenizer SOURCES)
list(TRANSFORM tokenizer_sources PREPEND ${PROJECT_SOURCE_DIR}/runtime/)
lucid_fuzz(runtime.tokenizer_fuzz SEEDER seed_tokenizer INCLUDES ${TOKENIZER_TESTS_INCLUDE_DIRS}
    LIBRARIES ${TOKENIZER_TESTS_LDFLAGS}
    SOURCES fuzz_tokenizer.c ${tokenizer_sources} ${PROJECT_SOURCE_DIR}/comm/status.c)
