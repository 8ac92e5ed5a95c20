# SPDX-License-Identifier: Apache-2.0
# Cross-building for aarch64 with Debian's compiler, tests under qemu-user. `./dev test-aarch64` fills PANTRY_SYSROOT with the libraries.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)

set(PANTRY_SYSROOT ${CMAKE_CURRENT_LIST_DIR}/../build/aarch64-sysroot CACHE PATH "Where the aarch64 libraries lie, as usr/ and lib/")
cmake_path(ABSOLUTE_PATH PANTRY_SYSROOT NORMALIZE)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES PANTRY_SYSROOT)
set(CMAKE_FIND_ROOT_PATH ${PANTRY_SYSROOT} /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${PANTRY_SYSROOT})
set(ENV{PKG_CONFIG_LIBDIR} ${PANTRY_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig:${PANTRY_SYSROOT}/usr/share/pkgconfig)

# The C library comes with the compiler, the others from the sysroot. --disable-new-dtags: the path also serves what they need in turn.
set(libraries ${PANTRY_SYSROOT}/usr/lib/aarch64-linux-gnu:${PANTRY_SYSROOT}/lib/aarch64-linux-gnu)
set(CMAKE_EXE_LINKER_FLAGS_INIT "-Wl,-rpath-link,${libraries} -Wl,-rpath,${libraries} -Wl,--disable-new-dtags")
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)
