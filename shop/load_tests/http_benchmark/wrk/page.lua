-- Get the same page over and over.
local common = dofile(os.getenv("BENCHMARK_COMMON"))
local line

function init()
  local cookies = os.getenv("BENCHMARK_COOKIES")
  line = common.get(common.option("PATH"), cookies)
end

function request()
  return line
end
