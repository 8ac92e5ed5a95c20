// SPDX-License-Identifier: Apache-2.0
#include "eval/speed_text.h"

#include <algorithm>
#include <string_view>

#include "base/rng.h"

namespace pantry {
namespace {

constexpr std::string_view kSentences[] = {
    "The baker opened the shop at five, while the street was still dark and the first tram had not come yet. ",
    "Flour was kept in the cold room behind the oven, and sugar, salt and yeast stood on the shelf by the door. ",
    "\"How many loaves do we need today?\" asked the apprentice, who had written 48 on the board. ",
    "It had rained for three days, so the river was high and the ferry stayed on the other bank. ",
    "A map of the valley hung beside the window; somebody had marked the old quarry with a red pencil. ",
    "In 1873 the railway reached the town, and within ten years its population had grown from 2,100 to 9,400. ",
    "Measure the width of the shelf twice before you cut the board, since wood does not grow back. ",
    "Her sister, an engineer, explained that the bridge moved by almost four centimetres between winter and summer. ",
    "Heat flows from the warmer body to the colder one until both have the same temperature. ",
    "If the pressure falls below 0.8 bar, close the valve, wait a minute, and try again. ",
    "The children counted the geese: seven on the meadow, two on the pond, and one that nobody could see. ",
    "Nobody knew who had planted the pear tree, but everybody in the village had eaten from it. ",
    "After dinner they played cards, and the grandfather, as usual, pretended not to remember the rules. ",
    "The library keeps two copies of each newspaper, one for readers and one for the archive. ",
    "Light needs a little more than eight minutes to come from the sun to the earth. ",
    "He sold the boat, paid his debts, and bought a ticket for the night train to the coast. ",
    "A good index is short: it names what people look for, not everything that the book contains. ",
    "When the lamp went out, the keeper climbed the 199 steps with a box of matches in his pocket. ",
    "The recipe asks for 250 grams of butter, three eggs, and the juice of half a lemon. ",
    "Most birds of that island cannot fly, because for a long time there was nothing to fly from. ",
    "She read the letter again, folded it, and put it between the pages of the dictionary. ",
    "The committee met on Tuesday; it decided nothing, but it decided that unanimously. ",
    "Copper conducts electricity better than iron, yet iron is cheaper and easier to find. ",
    "At the market you could buy onions, rope, second-hand shoes and, on Fridays, fresh fish. ",
    "To find the fault, remove one part after another and note each time whether the noise is still there. ",
    "The glacier has lost a third of its length since the first photograph was taken. ",
    "\"I would rather walk,\" said the visitor, although it was eleven kilometres and growing dark. ",
    "Every evening at nine the square filled with people who had nothing to do there but to be seen. ",
    "The second violin came in a bar too early, and the conductor, without looking up, smiled. ",
    "Water that stands in the pipe may freeze; let the tap drip when a cold night is expected. ",
    "The clerk stamped the form in three places and handed it back with a sigh.\n\n",
    "So the story ends where it began: with an empty jar, a spoon, and an open window.\n\n",
};

}  // namespace

std::vector<TokenId> RandomTokens(int32_t n_vocab, int64_t n, uint64_t seed) {
  Rng rng(seed);
  std::vector<TokenId> tokens(static_cast<size_t>(n));
  for (TokenId& token : tokens) token = static_cast<TokenId>(rng.NextU64() % static_cast<uint64_t>(n_vocab));
  return tokens;
}

std::vector<TokenId> TextTokens(const Tokenizer& tokenizer, int32_t n_vocab, int64_t n, uint64_t seed) {
  // Encoded one by one, so that a long context costs no long encoding.
  std::vector<std::vector<TokenId>> sentences;
  EncodeOptions options;
  options.add_special = false;
  for (const std::string_view text : kSentences) {
    std::vector<TokenId> tokens = tokenizer.Encode(text, options);
    const bool usable = std::all_of(tokens.begin(), tokens.end(), [=](TokenId t) { return t >= 0 && t < n_vocab; });
    if (usable && !tokens.empty()) sentences.push_back(std::move(tokens));
  }
  if (sentences.empty()) return RandomTokens(n_vocab, n, seed);
  Rng rng(seed);
  const auto size = static_cast<size_t>(n);
  std::vector<TokenId> out;
  out.reserve(size);
  if (size > 0 && tokenizer.adds_bos() && tokenizer.bos() < n_vocab) out.push_back(tokenizer.bos());
  while (out.size() < size) {
    const std::vector<TokenId>& sentence = sentences[rng.NextU64() % sentences.size()];
    out.insert(out.end(), sentence.begin(),
               sentence.begin() + static_cast<ptrdiff_t>(std::min(sentence.size(), size - out.size())));
  }
  return out;
}

}  // namespace pantry
