/* Small tokenizer.json files, put together by hand. */
#ifndef LUCID_TESTS_TOKENIZER_SAMPLES_H
#define LUCID_TESTS_TOKENIZER_SAMPLES_H

#define MODEL_TAIL \
    "\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\" \":3,\"ab\":4,\"abc\":5,\"<unk>\":6},\"merges\":[\"a b\",[\"ab\",\"c\"]]}"
#define MODEL                     "\"model\":{\"type\":\"BPE\"," MODEL_TAIL
#define MODEL_UNK                 "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"fuse_unk\":true," MODEL_TAIL
#define ADDED(id, content, flags) "{\"id\":" #id ",\"content\":\"" content "\"," flags "}"
#define FLAGS                     "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true"
#define FUSE_BYTES                "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}]}"
#define TEMPLATE                                                                                                       \
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}" \
    "},"                                                                                                               \
    "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[],\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[7]" \
    ","                                                                                                                \
    "\"tokens\":[\"<s>\"]}}}"

static const char sample_plain[] = "{\"version\":\"1.0\"," MODEL "}";
static const char sample_special[] =
    "{\"truncation\":{\"max_length\":1},\"padding\":null,\"added_tokens\":[" ADDED(7, "<s>", FLAGS) "]," TEMPLATE
                                                                                                    "," MODEL_UNK "}";
/* A byte each of what is \xE4\xBD\xA0, and the letter x. */
static const char sample_bytes[] = "{\"model\":{\"byte_fallback\":true,\"vocab\":{\"<0xE4>\":0,\"<0xBD>\":1,\"<0xA0>\":"
                                   "2,\"x\":3},\"merges\":[]}," FUSE_BYTES "}";
static const char sample_stages[] = "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"},{"
                                    "\"type\":\"Lowercase\"},{\"type\":\"Prepend\","
                                    "\"prepend\":\"b\"},{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"c+\"},"
                                    "\"content\":\"c\"}]},\"pre_tokenizer\":{\"type\":"
                                    "\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"
                                    "\"\\\\s+(?!\\\\S)|[\\\\w]|\\\\p{Han}\"},\"behavior\":"
                                    "\"MergedWithNext\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":"
                                    "true,\"use_regex\":true},{\"type\":"
                                    "\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\"}]},\"decoder\":{"
                                    "\"type\":\"ByteLevel\"}," MODEL_UNK "}";

#endif
