#!/usr/bin/env python3
"""Makes the golden files of the tokenizer tests with Hugging Face's tokenizers (0.21.4):

    python3 -m venv venv && venv/bin/pip install tokenizers==0.21.4
    venv/bin/python tests/runtime/tokenizer/make_tokenizers.py tests/runtime/tokenizer/golden

texts.json holds the texts; NAME.json is a tokenizer.json; NAME.golden.json has, for each text in order, the ids with
special tokens ("ids"), without ("plain", where they differ) and the text decoded from the latter, special tokens kept
("text") and skipped ("skipped"); where one of these is the original text, or for "skipped" the same as "text", it is left out.
Only NAMEs given as further arguments are made, if there are any. Which of several equally frequent characters a trained
vocabulary keeps is not the same in every run. Version 0.23.3 gives the same ids, but spells added tokens as its
normalizer left them.
"""
import json
import sys
from pathlib import Path
from random import Random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = [
    "",
    " ",
    "a",
    "Hello world",
    " Hello  world ",
    "The quick brown fox jumps over the lazy dog. I'll, we've, they're, it's, he'd, can't, I'm; DON'T SHOUT'S.",
    "attention, attention: preconditioned attention attends to the attended tokens",
    "Café naïve façade, Zoë's coöperation; señor, Ærøskøbing, Łódź, straße, ŒUVRE, İstanbul ıIiİ",
    "Cafe\u0301 nai\u0308ve A\u030a \u212b \u1e9b\u0323 s\u0323\u0307 \u0061\u0315\u0300\u05ae\u0300\u0062",
    "ﬁne ﬂow Ⅷ ① ２０２４ ｆｕｌｌ ㎏ ½ ﷺ ＡＢＣ x² H₂O …",
    "深層学習は、連続した表現を学ぶ。注意機構とトークン。ひらがなカタカナ",
    "長文脈的語言模型需要分佈式的注意力計算，分散在許多處理器上。",
    "한국어 문장도 있습니다. 가나다 \u1100\u1161\u11a8",
    "مرحبا بالعالم، كَيْفَ حَالُكَ؟ ١٢٣٤٥",
    "שלום עולם וְהָאָרֶץ",
    "हिन्दी में एक वाक्य। १२३ ক্ষ ไทยภาษา ที่นี่",
    "Привет, мир! Ёлка; Ελληνικά Σίσυφος ΟΔΟΣ; Հայերեն ქართული",
    "👩\u200d👩\u200d👧\u200d👦 family 🏳️\u200d🌈 flags 🇩🇪🇫🇷 👍🏽 🤖🤖🤖 ❤️ \U0001f9ff\U00020000\U0010ffff",
    "zero\u200bwidth \u200cjoin\u200der \ufeffbom \u00a0nbsp\u2003em \u3000ideographic \u1680ogham \u180emvs \u0085nel \u2028ls\u2029ps",
    "\x00\x01\x02 bell\x07 back\x08 esc\x1b[0m del\x7f \x80\x9f c1 tab\tvt\x0bff\x0ccr\rcrlf\r\n\r\nend",
    "one space: , two:  , three:   , many:                                                  .",
    "newlines\n\n\n\n\n\n\n\nand\n \n  \n   mixed \n\t\n\t\tindented\n",
    "                                                                                ",
    "\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n",
    "3.14159 1,000,000 2024-05-17 12345678901234567890 007 1st 2nd 0xDEADBEEF 1e-10 ٣ ৩ Ⅳ ½",
    "def f(x: int) -> str:\n    if x >= 0 and not (x % 2):\n        return f\"{x!r:>10}\\n\"  # comment\n\n\nclass A(B):\n\tpass\n",
    "int main(void) { for (int i = 0; i < n; i++) a[i] += b[i] * c[i]; /* loop */ return 0; }\n",
    "<html><body class=\"x\">&nbsp;</body></html> https://example.org/a?b=c&d=%20#e user@example.com",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "abababababababababababababababababab bcbcbcbcbc cabcabcabcabcabc",
    "<s>Hello</s> and <unk> <|endoftext|><|endoftext|> text <|begin_of_text|>user<|end|> tail",
    "x<mask>y <mask>  z  <mask>, <MASK> word wordy sword word, word\u0301 word_ _word 1word word",
    "  <left>  a  <left><left>b <right>  c\t<right>\n\n<right> <both>   <both>  end  <both>  ",
    "straight ahead Straight AHEAD ﬁnally FINALLY new york New York NEW  YORK newyork",
    "▁already▁meta ▁▁ space▁ ▁ ",
    "<0x41> <0xE4><0xBD><0xA0> <0xZZ> <0x0a>",
    "!!!???...---___***### $%^&*() [brackets] {braces} |pipes| ~tilde~ `ticks` \"quotes\" 'single' «guillemets» 「」",
    "it'S IT's we'RE 'tis ''s '\u017f K\u212a",
    "Ā ġ Ġ ċ Ċ ĉ Ń ŀ ¡ ÿ \u00ad soft",
    "Ⓐⓑ 🄰🅑🆎 \u2160word \u0345 x\u0488y a\u203fb",
    "The ranks hand their tiles round the ring, and each of them solves its own diagonal block before it sends it on. "
    "Nothing waits for what is not needed; what is needed is posted before anybody asks for it.",
]



def random_text(random):
    """Pieces of the texts above, and characters out of nowhere, in any order."""
    pieces = [piece for text in TEXTS for piece in text.split(" ") if piece]
    ranges = [(0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x5FF), (0x900, 0xDFF), (0x1E00, 0x1FFF), (0x2000, 0x206F),
              (0x2100, 0x218F), (0x3040, 0x30FF), (0x4E00, 0x4FFF), (0xAC00, 0xADFF), (0xFF00, 0xFFEF), (0x1F300, 0x1F64F)]
    parts = []
    for _ in range(random.randrange(5, 60)):
        kind = random.randrange(6)
        if kind < 3: parts.append(random.choice(pieces))
        elif kind == 3: parts.append(chr(random.randint(*random.choice(ranges))))
        elif kind == 4: parts.append(random.choice([" ", "  ", "\n", "\t", "\r\n", "\u3000", "\u00a0", ",", ".", "'s", "7", "▁"]))
        else: parts.append(random.choice(pieces)[:random.randint(1, 4)])
        parts.append(random.choice(["", "", " "]))
    return "".join(parts)


TEXTS += [random_text(Random(seed)) for seed in range(25)]

CORPUS = TEXTS + [
    "Attention with preconditioned representations removes from every value what its predecessors already say.",
    "A token attends to the tokens before it, and the memory of a rank holds the tiles that the layout gives it.",
    "the and ing tion er re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me de hi ri ro",
    "for (int i = 0; i < n; i++) { sum += x[i]; } return sum; if (a) b(); else c();\n    while (1) {\n        break;\n    }\n",
    "Der Rang hält die Kacheln. Les rangs gardent les tuiles. Los rangos guardan las baldosas. 注意力機構 トークン",
]
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
ESCAPES = (r"^\w\W|\w+\b['’]?|\d{2,}|[\x41-\x{5a}\u0410-\u042f]|\h\h|(?<=\s)\S(?=\s)|[\D\S]$|\p{Han}+|\p{^L}\v?|\p{Greek}++|"
           r"[^\w\s\-&]{,3}\.|(?>\t+)|[\n\r]")
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
BYTES = [f"<0x{b:02X}>" for b in range(256)]


def special(content, **flags):
    return AddedToken(content, special=True, normalized=False, **flags)


def train(model, pre_tokenizer, n_merges, alphabet, specials, normalizer=None):
    """A model's vocabulary and merges."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer: tokenizer.normalizer = normalizer
    limit = {} if alphabet is ALPHABET else {"limit_alphabet": 90}
    trainer = trainers.BpeTrainer(vocab_size=len(specials) + max(len(alphabet), 90) + n_merges, initial_alphabet=alphabet,
                                  special_tokens=specials, show_progress=False, **limit)
    tokenizer.train_from_iterator(CORPUS, trainer)
    trained = json.loads(tokenizer.to_str())["model"]
    return trained["vocab"], [tuple(m) for m in trained["merges"]]


def byte_level(n_merges, **options):
    vocab, merges = train(models.BPE(), pre_tokenizers.ByteLevel(add_prefix_space=False), n_merges, ALPHABET, [])
    tokenizer = Tokenizer(models.BPE(vocab, merges, **options))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def sentence_piece(n_merges, **options):
    """Llama-2's vocabulary: <unk>, <s>, </s>, the bytes, then what was merged."""
    specials = ["<unk>", "<s>", "</s>"] + BYTES
    vocab, merges = train(models.BPE(), pre_tokenizers.Metaspace(), n_merges, ["▁"], specials)
    options = {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True} | options
    if not options["byte_fallback"]: vocab = {token: id for token, id in vocab.items() if token not in BYTES}
    tokenizer = Tokenizer(models.BPE(vocab, merges, **{k: v for k, v in options.items() if v is not None}))
    tokenizer.add_special_tokens([special(t) for t in specials[:3]])
    return tokenizer


def bos_template(token, id):
    return processors.TemplateProcessing(single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, id)])


def llama2(**options):
    t = sentence_piece(400, **options)
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.post_processor = bos_template("<s>", 1)
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return t


def metaspace(scheme, split, **options):
    t = sentence_piece(200, **options)
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
    t.decoder = decoders.Metaspace(prepend_scheme=scheme, split=split)
    return t


def metaspace_bytes():
    t = metaspace("first", False)
    t.decoder = decoders.Sequence([decoders.Metaspace(prepend_scheme="first"), decoders.ByteFallback(), decoders.Fuse()])
    return t


def unknown_symbols(**options):
    """Unknown characters, unknown ones only (no bytes) or some bytes missing."""
    t = metaspace("always", True, **options)
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Strip("e", 1, 0)])
    return t


def some_bytes():
    t = metaspace("always", False, fuse_unk=False)
    model = json.loads(t.to_str())
    model["model"]["vocab"] = {k: v for k, v in model["model"]["vocab"].items() if k not in BYTES[0x80:0xE4]}
    return Tokenizer.from_str(json.dumps(model))


def gpt2(prefix=False):
    t = byte_level(400)
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    t.post_processor = processors.ByteLevel(trim_offsets=True)
    t.add_special_tokens([special("<|endoftext|>")])
    return t


def roberta():
    t = gpt2(True)
    t.add_special_tokens([special("<s>"), special("</s>"), special("<mask>", lstrip=True)])
    t.post_processor = processors.RobertaProcessing(("</s>", t.token_to_id("</s>")), ("<s>", t.token_to_id("<s>")))
    return t


def llama3():
    t = byte_level(400, ignore_merges=True)
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.add_special_tokens([special("<|begin_of_text|>"), special("<|end|>")])
    begin = t.token_to_id("<|begin_of_text|>")
    t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), bos_template("<|begin_of_text|>", begin)])
    return t


def unmergeable():
    """A vocabulary with whole words that no merge makes: ignore_merges finds them, merging never does."""
    t = json.loads(llama3().to_str())
    vocab = t["model"]["vocab"]
    words = ["ĠHello", "Ġworld", "preconditioned", "Ġattended"]
    for token in t["added_tokens"]: token["id"] += len(words)
    next_id = max(vocab.values()) + 1
    for i, word in enumerate(words): vocab[word + "Ġ" * (word in vocab)] = next_id + i
    t["post_processor"] = None
    return Tokenizer.from_str(json.dumps(t))


def qwen():
    t = byte_level(200)
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3.replace("{1,3}", "")), "isolated"),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return t


def deepseek():
    t = byte_level(200)
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated"),
        pre_tokenizers.Split(Regex("[一-龥぀-ゟ゠-ヿ]+"), "isolated"),
        pre_tokenizers.Split(Regex(r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
                                   r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return t


def one_split(split, bytes_after=True):
    t = byte_level(60)
    after = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)] if bytes_after else []
    t.pre_tokenizer = pre_tokenizers.Sequence(split + after)
    return t


def split(pattern, behavior, invert=False):
    return one_split([pre_tokenizers.Split(pattern, behavior, invert)])


def normalized(*stages):
    t = byte_level(60)
    t.normalizer = normalizers.Sequence(list(stages))
    return t


def added(normalizer=None, base=byte_level):
    t = base(60)
    if normalizer: t.normalizer = normalizer
    t.add_tokens([AddedToken("word", single_word=True, normalized=False), AddedToken("<left>", lstrip=True, normalized=False),
                  AddedToken("<right>", rstrip=True, normalized=False), AddedToken("<both>", lstrip=True, rstrip=True),
                  AddedToken("<mask>", normalized=True), AddedToken("New York", normalized=True), AddedToken("Straight"),
                  AddedToken("new", normalized=False), AddedToken("new york", normalized=False), AddedToken("  ", normalized=False),
                  AddedToken("ﬁ", normalized=True), AddedToken("注意", normalized=False), AddedToken(" c", normalized=False)])
    t.add_special_tokens([special("<s>"), special("</s>", single_word=True), AddedToken("<unk>", special=True, normalized=True)])
    return t


def no_decoder():
    t = byte_level(60)
    t.decoder = None
    return t


def old_metaspace():
    """As files were before prepend_scheme, with merges as strings."""
    t = json.loads(metaspace("always", True).to_str())
    t["model"]["merges"] = [" ".join(m) for m in t["model"]["merges"]]
    t["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "str_rep": "▁", "add_prefix_space": True}
    t["decoder"] = {"type": "Metaspace", "replacement": "▁", "str_rep": "▁", "add_prefix_space": True}
    return t


MAKERS = {
    "llama2": llama2,
    "metaspace_always": lambda: metaspace("always", True),
    "metaspace_first": metaspace_bytes,
    "metaspace_never": lambda: metaspace("never", False),
    "metaspace_old": old_metaspace,
    "unk_fused": lambda: unknown_symbols(byte_fallback=False),
    "unk_single": lambda: unknown_symbols(byte_fallback=False, fuse_unk=False),
    "unk_none": lambda: unknown_symbols(byte_fallback=False, unk_token=None),
    "unk_some_bytes": some_bytes,
    "gpt2": gpt2,
    "roberta": roberta,
    "llama3": llama3,
    "unmergeable": unmergeable,
    "qwen": qwen,
    "o200k": lambda: split(Regex(O200K), "removed", True),
    "deepseek": deepseek,
    "escapes": lambda: split(Regex(ESCAPES), "isolated"),
    "split_removed": lambda: split(Regex(r"[aeiou ]|\n+"), "removed"),
    "split_previous": lambda: split(Regex(r"[aeiou ]|\n+"), "merged_with_previous"),
    "split_next": lambda: split(Regex(r"[aeiou ]|\n+"), "merged_with_next"),
    "split_contiguous": lambda: split(Regex(r"[aeiou ]|\n+"), "contiguous"),
    "split_empty": lambda: split(Regex(r"a*"), "isolated"),
    "split_inverted_previous": lambda: split(Regex(r"\w+"), "merged_with_previous", True),
    "split_inverted_next": lambda: split(Regex(r"\w+|[^\w\s]"), "merged_with_next", True),
    "split_inverted_contiguous": lambda: split(Regex(r"\w+|[^\w\s]"), "contiguous", True),
    "split_string": lambda: split(". ", "merged_with_previous"),
    "digits": lambda: one_split([pre_tokenizers.Digits(True), pre_tokenizers.Punctuation("contiguous")]),
    "digits_runs": lambda: one_split([pre_tokenizers.Digits(False), pre_tokenizers.Punctuation()]),
    "whitespace": lambda: one_split([pre_tokenizers.Whitespace()]),
    "whitespace_split": lambda: one_split([pre_tokenizers.WhitespaceSplit()]),
    "prefix_in_sequence": lambda: one_split([pre_tokenizers.Split(Regex(r"\d+"), "isolated"), pre_tokenizers.Metaspace(prepend_scheme="first")]),
    "nfkc_lower": lambda: normalized(normalizers.NFKC(), normalizers.Lowercase()),
    "nfd": lambda: normalized(normalizers.NFD()),
    "nfkd": lambda: normalized(normalizers.NFKD(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Replace("the", "THE")),
    "added": added,
    "added_normalized": lambda: added(normalizers.Sequence([normalizers.Prepend("_"), normalizers.NFKC(), normalizers.Lowercase()])),
    "no_decoder": no_decoder,
}


def golden(tokenizer, text):
    full, plain = tokenizer.encode(text).ids, tokenizer.encode(text, add_special_tokens=False).ids
    decoded = tokenizer.decode(plain, skip_special_tokens=False)
    skipped = tokenizer.decode(plain, skip_special_tokens=True)
    entry = {"ids": full}
    if plain != full: entry["plain"] = plain
    if decoded != text: entry["text"] = decoded
    if skipped != decoded: entry["skipped"] = skipped
    return entry


def write_lines(path, entries):
    lines = ",\n".join(json.dumps(e, ensure_ascii=False, separators=(",", ":")) for e in entries)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def main():
    folder = Path(sys.argv[1])
    write_lines(folder / "texts.json", TEXTS)
    for name in sys.argv[2:] or MAKERS:
        made = MAKERS[name]()
        file = made if isinstance(made, dict) else json.loads(made.to_str())
        if name in ("llama2", "roberta", "qwen"): file["model"]["merges"] = [" ".join(m) for m in file["model"]["merges"]]
        spelled = json.dumps(file, ensure_ascii=False, separators=(",", ":"))
        tokenizer = Tokenizer.from_str(spelled)
        (folder / f"{name}.json").write_text(spelled + "\n", encoding="utf-8")
        write_lines(folder / f"{name}.golden.json", [golden(tokenizer, text) for text in TEXTS])


if __name__ == "__main__":
    main()
