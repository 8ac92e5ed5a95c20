// SPDX-License-Identifier: Apache-2.0
// What people hand to a GGUF reader by mistake, by the first bytes of the file.
#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>

#include "weights/gguf/gguf_parser.h"

namespace pantry {
namespace {

using std::string_view_literals::operator""sv;

struct Signature {
  std::string_view bytes;
  const char* looks_like;
  const char* fix;
};

constexpr char kDownloadGguf[] = "download the model's GGUF file, or convert it with llama.cpp's convert_hf_to_gguf.py";
constexpr char kUnpack[] = "unpack it and open the .gguf file inside";
constexpr char kSavedPage[] =
    "the server sent a page instead of the model (a login, an error, a link that is not the raw file): download it "
    "again";

constexpr Signature kSignatures[] = {
    {"PK\x03\x04"sv, "a zip archive: a PyTorch checkpoint or a packed download", kDownloadGguf},
    {"\x80\x02"sv, "a Python pickle: a PyTorch checkpoint", kDownloadGguf},
    {"\x80\x04"sv, "a Python pickle: a PyTorch checkpoint", kDownloadGguf},
    {"lmgg"sv, "a legacy GGML file, from before GGUF", kDownloadGguf},
    {"fmgg"sv, "a legacy GGML file (GGMF), from before GGUF", kDownloadGguf},
    {"tjgg"sv, "a legacy GGML file (GGJT), from before GGUF", kDownloadGguf},
    {"algg"sv, "a legacy GGML adapter", kDownloadGguf},
    {"FUGG"sv, "a big-endian GGUF file, made for another kind of machine", "download the little-endian file"},
    {"version https://git-lfs"sv, "a Git LFS pointer, not the model itself", "run 'git lfs pull' where it was cloned"},
    {"<!DOCTYPE"sv, "a web page (HTML)", kSavedPage},
    {"<!doctype"sv, "a web page (HTML)", kSavedPage},
    {"<html"sv, "a web page (HTML)", kSavedPage},
    {"<HTML"sv, "a web page (HTML)", kSavedPage},
    {"<?xml"sv, "an XML page", kSavedPage},
    {"{"sv, "JSON text", kSavedPage},
    {"\x1f\x8b"sv, "a gzip archive", kUnpack},
    {"\x28\xb5\x2f\xfd"sv, "a zstd archive", kUnpack},
    {"\xfd"
     "7zXZ"sv,
     "an xz archive", kUnpack},
    {"7z\xbc\xaf"sv, "a 7-Zip archive", kUnpack},
    {"\x89HDF"sv, "an HDF5 file (Keras)", kDownloadGguf},
};

// safetensors: the length of a JSON header as u64, then the header itself.
bool LooksLikeSafetensors(std::string_view head, uint64_t file_size) {
  if (head.size() < 9 || head[8] != '{') return false;
  uint64_t n_bytes = 0;
  std::memcpy(&n_bytes, head.data(), sizeof(n_bytes));
  return n_bytes >= 2 && n_bytes <= file_size - 8;
}

std::string HexBytes(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) out += fmt::format("{}{:02x}", out.empty() ? "" : " ", static_cast<unsigned char>(c));
  return out;
}

}  // namespace

Status NotGgufError(const Reader& reader) {
  if (reader.size() == 0)
    return CorruptionError("'{}' is empty (0 bytes): the download failed; download it again", reader.path());
  std::string head(std::min<uint64_t>(reader.size(), 64), '\0');
  PANTRY_RETURN_IF_ERROR(reader.ReadAt(0, {reinterpret_cast<uint8_t*>(head.data()), head.size()}));
  const std::string found = fmt::format("'{}' is not a GGUF file (expected magic 47 47 55 46 at offset 0, found {}",
                                        reader.path(), HexBytes(head.substr(0, 4)));
  if (LooksLikeSafetensors(head, reader.size())) {
    return UnsupportedError("{}: it looks like a safetensors file); {}", found, kDownloadGguf);
  }
  for (const Signature& signature : kSignatures) {
    if (head.starts_with(signature.bytes)) {
      return UnsupportedError("{}: it looks like {}); {}", found, signature.looks_like, signature.fix);
    }
  }
  if (head.find_first_not_of('\0') == std::string::npos) {
    return CorruptionError("{}: it starts with zeros: a download that was never filled); download it again", found);
  }
  return CorruptionError("{}); check the path, or download it again", found);
}

}  // namespace pantry
