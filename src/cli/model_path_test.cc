// SPDX-License-Identifier: Apache-2.0
#include "cli/model_path.h"

#include <gtest/gtest.h>

namespace pantry {
namespace {

TEST(PackName, LiesBesideTheModelWithoutTheNumberOfShards) {
  EXPECT_EQ(PackNameOf("/m/a.gguf"), "/m/a.pantry");
  EXPECT_EQ(PackNameOf("/m/a-00001-of-00003.gguf"), "/m/a.pantry");
  EXPECT_EQ(PackNameOf("a-00002-of-00003.gguf"), "a-00002-of-00003.pantry") << "no model begins there";
  EXPECT_EQ(PackNameOf("a-00001-of-0000x.gguf"), "a-00001-of-0000x.pantry");
  EXPECT_EQ(PackNameOf("-00001-of-00003.gguf"), ".pantry");
  EXPECT_EQ(PackNameOf("b"), "b.pantry");
}

}  // namespace
}  // namespace pantry
