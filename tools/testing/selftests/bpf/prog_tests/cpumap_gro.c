// SPDX-License-Identifier: GPL-2.0
#include "cpumap_common.h"
