# Install rules and the package that find_package(fewstep) finds.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/fewstep)

install(TARGETS fewstep_core fewstep_device EXPORT fewstepTargets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY lib/include/ device/include/
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(FEWSTEP_BUILD_HOST)
  install(TARGETS fewstep_host EXPORT fewstepTargets
          ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(TARGETS fewstep DESTINATION ${CMAKE_INSTALL_BINDIR})
  install(DIRECTORY host/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
endif()

install(EXPORT fewstepTargets NAMESPACE fewstep:: DESTINATION ${package_dir})
configure_package_config_file(
  tools/cmake/fewstepConfig.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/fewstepConfig.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(
  ${CMAKE_CURRENT_BINARY_DIR}/fewstepConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/fewstepConfig.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/fewstepConfigVersion.cmake
        DESTINATION ${package_dir})
