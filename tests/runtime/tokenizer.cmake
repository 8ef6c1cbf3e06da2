# Tests of the tokenizers; included by this folder's CMakeLists.txt.
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
lucid_test(runtime.tokenizer_golden SOURCES test_tokenizer_golden.c LIBRARIES lucid_tokenizer PkgConfig::JANSSON
    ARGS ${CMAKE_CURRENT_SOURCE_DIR}/golden/tokenizers)
