// SPDX-License-Identifier: Apache-2.0
// Judges what a model wrote: whether it is one of the right answers, by the rules of lm-evaluation-harness.
//
// triviaqa: the whole answer, case and ASCII punctuation ignored; f1 counts words in common with the nearest alias.
// gsm8k: a number that is looked for in the text, strictly (after "#### ", or "The answer is " with examples) or flexibly (the last one).
// Threads: pure functions.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "eval/tasks/task_file.h"

namespace pantry {

// What JudgeAnswer() gives, in order: {"exact_match", "f1"}; {"exact_match,strict-match", "exact_match,flexible-extract"}.
std::span<const std::string_view> AnswerMetrics(TaskProtocol protocol);
// What ends an answer.
std::span<const std::string_view> AnswerStops(TaskProtocol protocol);

// A figure of 0 to 1 for each metric. `text`: what was generated, up to the stop. REQUIRES: IsGeneration(protocol), answers not empty.
std::vector<double> JudgeAnswer(TaskProtocol protocol, std::string_view text, std::span<const std::string> answers);

// Lower case, without ASCII punctuation and white space around it.
std::string PlainWords(std::string_view text);
// 2 x common / (words of both), words of PlainWords() counted as often as they occur; 1 when both have none.
double WordF1(std::string_view a, std::string_view b);

// What stands for the number; "" when there is none. `cot`: in the form of worked examples.
std::string_view StrictNumber(std::string_view text, bool cot);
std::string_view FlexibleNumber(std::string_view text);
// Without commas, dollar signs, all up to "#### ", and a full stop at the end.
std::string PlainNumber(std::string_view text);

}  // namespace pantry
