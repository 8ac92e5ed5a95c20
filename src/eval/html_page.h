// SPDX-License-Identifier: Apache-2.0
// The frame that reports share: pages of one file, without scripts and with nothing to fetch.
#pragma once

#include <string>
#include <string_view>

namespace pantry {

// Text as it may stand in HTML, also between quotation marks.
std::string HtmlText(std::string_view text);

// A page up to its heading, ready for what a report says; it ends with "</body></html>". `style`: rules of its own beside those that all
// pages have. Title and heading are HTML.
std::string BeginHtmlPage(std::string_view title, std::string_view heading, std::string_view style);

}  // namespace pantry
